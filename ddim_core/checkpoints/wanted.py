"""What to do about a name that is no checkpoint folder: most people who give one have the weights, in another form."""

from __future__ import annotations

import re
from pathlib import Path
from shlex import quote

from ddim_core.checkpoints.places import is_checkpoint, snapshots_below

_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_ADDRESS = "https://huggingface.co/"
_PICKLED = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
DOWNLOADED = ("*.json", "*.txt", "*model.safetensors", "*model-0*.safetensors")
"""Patterns of the files that a checkpoint is made of: no pickles, no variants, no single file of everything."""
LEFT_OUT = ("safety_checker/*",)


def wrong_form(name: str) -> str | None:
    """Return what a name stands for that is no checkpoint folder, and the way to one; None where nothing is known."""
    path = Path(name)
    if path.is_file():
        return _of_file(path)
    if path.is_dir():
        return _of_folder(path)
    name = name.removeprefix(_HUB_ADDRESS).removesuffix("/")
    return _of_hub_id(name) if _HUB_ID.fullmatch(name) else None


def _of_file(path: Path) -> str | None:
    if path.suffix == ".safetensors":
        return f"the single file {path}; make a folder of it: {convert_command(path)}"
    if path.suffix in _PICKLED:
        return (
            f"the pickled file {path}, which can run code when it is loaded and so never is; take the .safetensors "
            "of the same model"
        )
    return f"the file {path}; give the folder that holds model_index.json"


def _of_folder(path: Path) -> str | None:
    if is_checkpoint(path):
        return None
    if snapshots := snapshots_below(path):
        shown = ", ".join(map(str, snapshots[:3])) + (", ..." if len(snapshots) > 3 else "")
        return f"a hub's cache, {path}; give a snapshot in it: {shown}"
    if single := sorted(path.glob("*.safetensors")):
        return f"{path} without model_index.json; make a checkpoint of {single[0].name}: {convert_command(single[0])}"
    return None


def _of_hub_id(name: str) -> str:
    folder = f"/models/{name.rpartition('/')[2]}"
    cached = Path.home() / ".cache" / "huggingface" / "hub" / f"models--{name.replace('/', '--')}"
    if snapshots := [place for place in snapshots_below(cached) if is_checkpoint(place)]:
        return f"the hub's id {name}; it is in this machine's cache: --model {snapshots[-1]}"
    patterns = f"allow_patterns={list(DOWNLOADED)}, ignore_patterns={list(LEFT_OUT)}"
    get = f"from huggingface_hub import snapshot_download as get; get('{name}', local_dir='{folder}', {patterns})"
    return (
        f"{name}, which looks like a hub's id; nothing is downloaded here. Where there is a network (pip install "
        f'huggingface_hub): python -c "{get}"; then put the folder on every host, start workers with --models /models, '
        f"and give --model {folder}"
    )


def convert_command(path: Path) -> str:
    """Return the command that makes a folder of a single file."""
    file, out = quote(str(path)), quote(str(path.with_suffix("")))
    return f"ddim-fleet models convert {file} --like FOLDER_OF_THE_SAME_KIND --out {out}"
