"""The files of a checkpoint folder: JSON, and weights that are safe to load and are the ones that will be loaded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from glob import escape as glob_escape
from pathlib import Path
from typing import Any

from ddim_core.errors import CheckpointError

_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors")
_ADAPTER = "adapter_config.json"
"""Where transformers finds it, it loads the model that this file names, from anywhere."""
_VARIANT = r"(?!.*-\d{5}-of-\d{5}\.)([A-Za-z0-9][A-Za-z0-9_-]{0,63})"
"""Of a file's name, ``fp16`` for instance; the number of a shard is none."""
_POINTER = b"version https://git-lfs"
"""How a file begins that a clone without Git LFS has in place of the weights."""


def weight_files(folder: Path, place: str, stem: str, variant: str | None = None) -> dict[str, str]:
    """Return the safetensors files of a component: one, or the shards that an index names, and that index.

    Args:
        folder: The checkpoint.
        place: The component's folder in it, or empty: they lie beside ``model_index.json``.
        stem: What their names begin with.
        variant: Taken in place of the plain files where the component has it.

    Returns:
        The path of each in the checkpoint by the name that it has beside the component's ``config.json`` in a folder
        without variants.

    Raises:
        CheckpointError: The weights are pickled, lie elsewhere, or are not the ones that every loader would take.
    """
    chosen = variant if variant in variants_of(folder, place, stem) else None
    single, index = inside(place, _single(stem, chosen)), _index(folder, place, stem, chosen)
    has_single, has_index = (folder / single).is_file(), (folder / index).is_file()
    if has_single and has_index:  # mindone takes the shards for some networks and the single file for others
        raise CheckpointError(f"a checkpoint must hold {single} or {index}, got both in {folder}; remove one")
    if (folder / place / _ADAPTER).exists():
        raise CheckpointError(
            f"a checkpoint must hold no {inside(place, _ADAPTER)}, which has another model loaded, got one in {folder}"
        )
    if has_index:
        shards = {shard: inside(place, shard) for shard in _shards(folder, index)}
        return {f"{stem}.safetensors.index.json": index, **shards}
    pickles = sorted(file.name for file in (folder / place).glob("*") if file.suffix in _PICKLES)
    if not has_single and pickles:
        raise CheckpointError(
            f"weights must be {single}, got {inside(place, pickles[0])} in {folder}; pickled weights can run code when "
            "they are loaded, so they never are: save the pipeline again with safe_serialization=True"
        )
    return {f"{stem}.safetensors": single}


def has_plain_weights(folder: Path, place: str, stem: str) -> bool:
    """Return whether a component has weights that are of no variant."""
    return any((folder / path).is_file() for path in (inside(place, _single(stem)), _index(folder, place, stem)))


def variants_of(folder: Path, place: str, stem: str) -> set[str]:
    """Return the variants of a component's weights that a folder holds, such as ``fp16``."""
    name = re.escape(stem)
    patterns = [
        re.compile(rf"{name}\.{_VARIANT}\.safetensors(\.index\.json)?"),
        re.compile(rf"{name}\.safetensors\.index\.{_VARIANT}\.json"),
    ]
    files = [file.name for file in (folder / place).glob(f"{glob_escape(stem)}.*") if file.is_file()]
    found = (pattern.fullmatch(file) for file in files for pattern in patterns)
    return {match[1] for match in found if match}


def refuse_pointers(folder: Path, names: Iterable[str]) -> None:
    """Raise CheckpointError for a file that stands for weights which were never downloaded."""
    for name in names:
        if (folder / name).stat().st_size < 1024:
            with (folder / name).open("rb") as file:
                if file.read(len(_POINTER)) == _POINTER:
                    rule = f"{name} must hold weights, got a pointer of Git LFS in {folder}"
                    raise CheckpointError(f"{rule}; fetch them with: git lfs pull")


def inside(place: str, name: str) -> str:
    """Return the path of a file in a folder of the checkpoint, which is the checkpoint itself if ``place`` is empty."""
    return f"{place}/{name}" if place else name


def _single(stem: str, variant: str | None = None) -> str:
    return f"{stem}.safetensors" if variant is None else f"{stem}.{variant}.safetensors"


def _index(folder: Path, place: str, stem: str, variant: str | None = None) -> str:
    """Return the path of the index of shards; libraries disagree on where its name has the variant."""
    if variant is None:
        return inside(place, f"{stem}.safetensors.index.json")
    other = inside(place, f"{stem}.{variant}.safetensors.index.json")
    return other if (folder / other).is_file() else inside(place, f"{stem}.safetensors.index.{variant}.json")


def _shards(folder: Path, index: str) -> list[str]:
    weight_map = read_json(folder, index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"weight_map must name the file of every weight, got {weight_map!r:.80} in {index}")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            rule = f"must name .safetensors files beside {index}"
            raise CheckpointError(f"weight_map {rule}, got {shard!r:.80} in {folder}")
    return sorted(set(weight_map.values()))


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the object in a JSON file of the folder.

    Raises:
        CheckpointError: There is no such file, or something else in it.
    """
    path = folder / name
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"a checkpoint must hold {name}, got none in {folder}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} must be a JSON file, got {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content
