"""Which checkpoints a worker will load."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ddim_core.checkpoints import digest, resolve
from ddim_core.contracts.plan import ModelRef
from ddim_core.errors import CheckpointError
from workers.checkpoints import Checkpoints


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Give a folder with one checkpoint, ``mine``."""
    shutil.copytree(resolve("shapes"), tmp_path / "models" / "mine")
    return tmp_path / "models"


def ref(name: str, given: str | None = None) -> ModelRef:
    """Return a reference by name, with the packaged checkpoint's digest unless another is given."""
    return ModelRef(name=name, digest=given or digest(resolve("shapes")), scheduler={})


def test_the_packaged_checkpoint_is_found_without_any_folder() -> None:
    """So that a first run needs no download."""
    assert Checkpoints([]).find(ref("shapes")) == resolve("shapes")
    only = Checkpoints([]).only()
    assert only is not None and (only.name, only.digest) == ("shapes", digest(resolve("shapes")))


@pytest.mark.parametrize("name", ["mine", "/elsewhere/on/the/producer/mine", "group/mine", "../models/mine"])
def test_a_checkpoint_is_found_by_the_last_part_of_its_name(models: Path, name: str) -> None:
    """A plan names a path of another host; the digest says that it is the same checkpoint."""
    assert Checkpoints([str(models)]).find(ref(name)) == models / "mine"
    assert Checkpoints([str(models / "mine")]).find(ref(name)) == models / "mine"


def test_nothing_outside_of_the_folders_is_loaded(models: Path, tmp_path: Path) -> None:
    """A message must not choose which files of a host are read."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"must be packaged .* or below --models, got none in"):
        Checkpoints([str(tmp_path / "empty")]).find(ref(str(models / "mine")))
    with pytest.raises(CheckpointError, match="got none in no folder given by --models"):
        Checkpoints([]).find(ref(str(models / "mine")))


def test_links_lead_nowhere_but_into_the_folders(models: Path, tmp_path: Path) -> None:
    """An archive may bring links to any file of the host, and a folder may be one."""
    weights = models / "mine" / "unet" / "diffusion_pytorch_model.safetensors"
    elsewhere = weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(elsewhere)
    rule = (
        rf"^a checkpoint's files must lie below --models, got {weights}, which is {elsewhere}; name that folder, too$"
    )
    with pytest.raises(CheckpointError, match=rule):
        Checkpoints([str(models)]).find(ref("mine"))
    assert Checkpoints([str(models), str(tmp_path)]).find(ref("mine")) == models / "mine"
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "mine").symlink_to(models / "mine")
    with pytest.raises(CheckpointError, match="a checkpoint's files must lie below --models, got "):
        Checkpoints([str(tmp_path / "linked")]).find(ref("mine"))


@pytest.mark.parametrize("name", ["", ".", "..", "/", "x" * 5000, "a/" * 3000, "mine\0", "../models/../../etc"])
def test_a_name_that_no_folder_has_is_refused_as_any_other(models: Path, name: str) -> None:
    """It comes with a run, and must not end a worker."""
    with pytest.raises(CheckpointError, match=r"must be packaged .* or below --models, got none in"):
        Checkpoints([str(models)]).find(ref(name))


def test_a_checkpoint_of_the_same_name_with_other_files_is_refused(models: Path) -> None:
    """Images of another model under a run's name would be found out by nobody."""
    with pytest.raises(CheckpointError, match="checkpoint mine must have digest sha256:other, got sha256:"):
        Checkpoints([str(models)]).find(ref("mine", "sha256:other"))


def test_a_checkpoint_that_was_changed_is_noticed(models: Path) -> None:
    """The digest is remembered only while the files keep their times."""
    checkpoints = Checkpoints([str(models)])
    checkpoints.find(ref("mine"))
    changed = models / "mine" / "scheduler" / "scheduler_config.json"
    changed.write_text(changed.read_text().replace("{", '{"comment": 1,', 1))
    os.utime(changed, ns=(1, 1))
    with pytest.raises(CheckpointError, match="must have digest"):
        checkpoints.find(ref("mine"))


def test_with_several_checkpoints_the_first_chunk_chooses(models: Path) -> None:
    """Only a single one is loaded before work comes."""
    assert Checkpoints([str(models)]).only() == ref("mine")
    shutil.copytree(models / "mine", models / "other")
    assert Checkpoints([str(models)]).only() is None
