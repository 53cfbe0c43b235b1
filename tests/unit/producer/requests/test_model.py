"""A checkpoint keeps the name that its plan gave it, wherever it lies now."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ddim_core.checkpoints import resolve
from ddim_core.contracts.plan import ModelRef
from ddim_core.errors import CheckpointError
from producer.local.fleet import models_option
from producer.requests.model import checkpoint_of, read_model
from workers.samplers.checkpoints import Checkpoints


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Give a checkpoint folder that no package knows."""
    return shutil.copytree(resolve("shapes"), tmp_path / "my-shapes")


def found_by_workers(model: ModelRef, checkpoint: Path, folder: Path) -> Path:
    folder.mkdir()
    options = models_option(model.name, checkpoint, folder)
    assert set(options[::2]) == {"--models"}
    assert Checkpoints(options[1::2]).only() is not None  # it is loaded before the first chunk comes
    return Checkpoints(options[1::2]).find(model).resolve()


@pytest.mark.parametrize("way", ["my-shapes", "my-shapes/unet/..", "link", "moved"])
def test_workers_find_a_checkpoint_however_it_was_named(
    checkpoint: Path, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link, a relative path, and a copy elsewhere of what the plan was made for."""
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to(checkpoint)
    model = read_model("my-shapes" if way == "moved" else way).ref()
    if way == "moved":
        checkpoint = checkpoint.rename(tmp_path / "elsewhere")
    assert found_by_workers(model, checkpoint, tmp_path / "fleet") == checkpoint


def test_workers_find_a_checkpoint_whose_files_are_links_into_a_cache(checkpoint: Path, tmp_path: Path) -> None:
    """As downloads from a hub are kept."""
    weights = checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    (tmp_path / "blobs").mkdir()
    weights.symlink_to(weights.rename(tmp_path / "blobs" / "abc"))
    assert found_by_workers(read_model(str(checkpoint)).ref(), checkpoint, tmp_path / "fleet") == checkpoint


def test_the_packaged_checkpoint_needs_no_folder(tmp_path: Path) -> None:
    """Workers carry it themselves."""
    assert models_option("shapes", resolve("shapes"), tmp_path) == []


def test_a_run_goes_on_only_with_the_checkpoint_it_was_planned_for(checkpoint: Path) -> None:
    """Half of a run from other weights would not be the run."""
    model = read_model(str(checkpoint)).ref()
    assert checkpoint_of(model) == checkpoint
    with (checkpoint / "unet" / "config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(CheckpointError, match=r"/my-shapes must have digest sha256:\w+, got sha256:\w+; put it back$"):
        checkpoint_of(model)
    shutil.rmtree(checkpoint)
    with pytest.raises(CheckpointError, match=r"^checkpoint must be a folder .*, got .*/my-shapes$"):
        checkpoint_of(model)
