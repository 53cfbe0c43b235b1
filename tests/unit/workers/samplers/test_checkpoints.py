"""Which checkpoints a worker will load."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ddim_core.checkpoints import digest, resolve
from ddim_core.contracts.plan import ModelRef
from ddim_core.errors import CheckpointError
from workers.samplers.checkpoints import Checkpoints
from workers.samplers.known import KnownCheckpoints


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
    with pytest.raises(CheckpointError, match="got none in --models, which names no folder"):
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


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """Give a snapshot in a hub's cache, whose files are links into the blobs of its repository."""
    repository = tmp_path / "cache" / "hub" / "models--org--mine"
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(resolve("shapes"), snapshot)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(path for path in snapshot.rglob("*") if path.is_file())):
        blob = path.rename(repository / "blobs" / f"{number:064d}")
        path.symlink_to(os.path.relpath(blob, path.parent))
    return snapshot


@pytest.mark.parametrize("given", ["cache", "cache/hub", "cache/hub/models--org--mine", "snapshots", "snapshot"])
@pytest.mark.parametrize(
    "name", ["/home/me/.cache/huggingface/hub/models--org--mine/snapshots/" + COMMIT, "/data/mine"]
)
def test_a_snapshot_of_a_hub_cache_is_found_wherever_the_cache_is_named(
    snapshot: Path, given: str, name: str, tmp_path: Path
) -> None:
    """The cache, a repository, its snapshots, or one of them: the links lead into that repository's blobs."""
    place = {"snapshots": snapshot.parent, "snapshot": snapshot}.get(given, tmp_path / given)
    checkpoints = Checkpoints([str(place)])
    if name == "/data/mine" and given == "snapshot":
        name = str(snapshot)  # a folder that was named alone is known by its own name
    assert checkpoints.find(ref(name)) == snapshot
    only = checkpoints.only()
    assert only is not None and only.digest == digest(resolve("shapes"))


def test_a_plan_made_from_a_cache_finds_a_plain_folder_of_the_same_name(models: Path) -> None:
    """Hosts need not keep their checkpoints alike; the digest says that it is the same one."""
    assert Checkpoints([str(models)]).find(ref(f"/cache/models--org--mine/snapshots/{COMMIT}")) == models / "mine"


def test_a_snapshot_brings_the_blobs_of_its_own_repository_and_no_others(snapshot: Path, tmp_path: Path) -> None:
    """A link out of the repository is refused, and so is one below its blobs, or from a folder that is no snapshot."""
    weights = snapshot / "unet" / "diffusion_pytorch_model.safetensors"
    blob = weights.resolve()
    other = tmp_path / "cache" / "hub" / "models--org--other" / "blobs" / "0"
    deeper = blob.parent / "deeper" / "0"
    for place in (other, deeper, tmp_path / "elsewhere"):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(blob, place)
        weights.unlink()
        weights.symlink_to(place)
        with pytest.raises(CheckpointError, match=r"^a checkpoint's files must lie below --models, got "):
            Checkpoints([str(snapshot)]).find(ref(COMMIT))
    weights.unlink()
    weights.symlink_to(blob)
    assert Checkpoints([str(snapshot)]).find(ref(COMMIT)) == snapshot
    moved = snapshot.rename(snapshot.with_name("main"))
    with pytest.raises(CheckpointError, match=r"^a checkpoint's files must lie below --models, got "):
        Checkpoints([str(moved)]).find(ref("main"))


def test_the_variant_whose_digest_a_plan_names_is_taken(models: Path) -> None:
    """A folder may hold both, and rows of a run name the digest alone."""
    plain = models / "mine" / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copyfile(plain, plain.with_name("diffusion_pytorch_model.fp16.safetensors"))
    half = digest(models / "mine", "fp16")
    checkpoints = Checkpoints([str(models)])
    assert checkpoints.locate(ref("mine")) == (models / "mine", None)
    assert checkpoints.locate(ref("mine", half)) == (models / "mine", "fp16")
    with pytest.raises(CheckpointError, match=r"got sha256:\w+ in \S+/mine, sha256:\w+ in \S+/mine \(fp16\)$"):
        checkpoints.locate(ref("mine", "sha256:other"))


def test_one_of_two_of_a_name_may_be_broken(models: Path, tmp_path: Path) -> None:
    """The other is found, whichever comes first."""
    broken = shutil.copytree(models / "mine", tmp_path / "first" / "mine")
    (broken / "unet" / "config.json").unlink()
    assert Checkpoints([str(tmp_path / "first"), str(models)]).find(ref("mine")) == models / "mine"
    with pytest.raises(CheckpointError, match=r"must hold unet/config\.json, got none"):
        Checkpoints([str(tmp_path / "first")]).find(ref("mine"))


def test_a_worker_notes_what_it_has_and_the_digests_that_it_has_read(models: Path, tmp_path: Path) -> None:
    """Nothing is read for a report; what lies elsewhere is a fault here, and in order for whoever may read it."""
    shutil.copytree(models / "mine", models / "other")
    weights = models / "other" / "unet" / "diffusion_pytorch_model.safetensors"
    checkpoints = Checkpoints([str(models)])
    checkpoints.find(ref("mine"))
    weights.symlink_to(weights.rename(tmp_path / "elsewhere"))
    shapes, mine, other = checkpoints.notes()
    assert (shapes.name, shapes.digest, shapes.fault) == ("shapes", "", "")
    assert (mine.digest, mine.folder, mine.token_limit) == (digest(models / "mine"), str(models / "mine"), 24)
    assert other.fault.startswith("a checkpoint's files must lie below --models, got ")
    known = KnownCheckpoints(checkpoints)
    assert known.latest == ()
    known.look()
    assert known.latest == (shapes, mine, other)
