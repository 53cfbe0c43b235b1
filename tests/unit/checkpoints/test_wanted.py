"""A name that is no checkpoint folder: what the error says to do about it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ddim_core.checkpoints import resolve
from ddim_core.checkpoints.wanted import DOWNLOADED, LEFT_OUT
from ddim_core.errors import CheckpointError

RULE = "^checkpoint must be a folder in diffusers' format or one of shapes, got "


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home without a hub's cache, and be in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_hub_id_is_told_with_the_command_that_downloads_it() -> None:
    """Nothing is downloaded by itself; where to put the folder is said, too."""
    with pytest.raises(CheckpointError, match=RULE + "runwayml/stable-diffusion-v1-5, which looks like") as caught:
        resolve("runwayml/stable-diffusion-v1-5")
    text = str(caught.value)
    assert (
        "snapshot_download as get; get('runwayml/stable-diffusion-v1-5', local_dir='/models/stable-diffusion-v1-5'"
        in text
    )
    assert text.endswith("--models /models, and give --model /models/stable-diffusion-v1-5")
    assert "\n" not in text
    code = text.partition('python -c "')[2].partition('"')[0]
    compile(code, "command", "exec")  # and the shell gives it to Python as it stands
    assert "'" in code and "$" not in code and "`" not in code


def test_what_is_downloaded_is_a_checkpoint_without_pickles() -> None:
    """By the hub's own rule for patterns, on the files that Stable Diffusion 1.5, XL and DDPM are published with."""
    objects = pytest.importorskip("huggingface_hub.utils").filter_repo_objects
    wanted = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "tokenizer_2/tokenizer_config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model.safetensors",
        "config.json",
    ]
    others = [
        "v1-5-pruned.ckpt",
        "v1-5-pruned-emaonly.safetensors",
        "sd_xl_base_1.0.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "safety_checker/model.safetensors",
        "unet/openvino_model.bin",
        "README.md",
    ]
    patterns = {"allow_patterns": list(DOWNLOADED), "ignore_patterns": list(LEFT_OUT)}
    assert list(objects([*wanted, *others], **patterns)) == wanted


def test_a_hub_id_that_is_cached_here_is_told_where(home: Path) -> None:
    """Five gigabytes need not be fetched twice."""
    snapshot = home / ".cache/huggingface/hub/models--org--mine/snapshots" / ("0" * 40)
    shutil.copytree(resolve("shapes"), snapshot)
    with pytest.raises(CheckpointError, match=f"{RULE}the hub's id org/mine; it is in .*: --model {snapshot}$"):
        resolve("org/mine")
    with pytest.raises(CheckpointError, match=f"{RULE}the hub's id org/mine; it is in"):
        resolve("https://huggingface.co/org/mine/")
    for place in (snapshot.parent.parent, snapshot.parent, home / ".cache/huggingface"):
        with pytest.raises(CheckpointError, match=f"{RULE}a hub's cache, {place}; give a snapshot in it: {snapshot}$"):
            resolve(place)
    assert resolve(snapshot) == snapshot


def test_a_single_file_is_told_with_the_command_that_converts_it(home: Path) -> None:
    """By itself, or in a folder that holds nothing else."""
    (home / "mine").mkdir()
    (home / "mine/v1.safetensors").write_bytes(b"")
    command = "ddim-fleet models convert mine/v1.safetensors --like FOLDER_OF_THE_SAME_KIND --out mine/v1$"
    with pytest.raises(CheckpointError, match=f"{RULE}the single file mine/v1.safetensors; make .*: {command}"):
        resolve("mine/v1.safetensors")
    with pytest.raises(CheckpointError, match=f"{RULE}mine without model_index.json; make .*: {command}"):
        resolve("mine")


def test_a_pickled_file_is_refused_as_one(home: Path) -> None:
    """No command of ours opens it."""
    (home / "v1.ckpt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"{RULE}the pickled file v1.ckpt, which can run code .* take the .safet"):
        resolve("v1.ckpt")


@pytest.mark.parametrize("name", ["nothing", "./nothing/here", "/nothing/here", "a/b/c", "x" * 5000, "mine\0"])
def test_any_other_name_is_said_as_it_is(name: str) -> None:
    """A path that does not exist is no hub's id."""
    with pytest.raises(CheckpointError, match=RULE):
        resolve(name)
