"""Images made again by a process of the workers', from their rows: the same bytes, with nothing of the run at hand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.contracts.request import Request
from ddim_core.errors import HostError, InputError
from ddim_core.storage.run_folder import RunFolder, encode_part, file_entry, part_path
from producer.replay import made_again
from producer.replay.compare import read_image
from tests.integration.finished_run import finished_run
from tests.integration.fleet_command import FleetCommand

REQUESTS = (
    Request(prompt="a red circle", num_images_per_prompt=3, eta=1 / 3, seed=2**63 - 1),
    Request(prompt="ein großes Bild 图\n", scheduler={"timestep_spacing": "trailing"}, height=48),
    Request(prompt="sim:fail"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of lossy images, one of them failed."""
    url = str(tmp_path_factory.mktemp("replay") / "run")
    return finished_run(url, REQUESTS, "files", image_format="jpg", quality=60)


def made(folder: RunFolder) -> list[Record]:
    """Return the rows of the images that were made."""
    return [row for row in folder.records() if row.status == SUCCESS]


def test_rows_of_several_slots_are_made_again_each_with_its_own(folder: RunFolder) -> None:
    """A device that was short of memory had fewer; equal bytes hold for one number."""
    rows = [replace(row, slots=slots) for row, slots in zip(made(folder), (2, 1, 2, 7), strict=True)]
    with made_again(rows, "sim:1") as again:
        assert {key: row.slots for key, row in again.items()} == {row.key: row.slots for row in rows}
        for row in rows:
            there = again[row.key]
            assert there.sha256 == row.sha256
            assert Path(str(there.path)).read_bytes() == read_image(folder, row)
            kept = {"prompt", "seed", "eta", "scheduler", "height", "format", "quality"}
            assert {name: asdict(there)[name] for name in kept} == {name: asdict(row)[name] for name in kept}
        place = Path(str(there.path)).parent
    assert not place.exists()


def test_whoever_waits_is_told_how_many_are_there(folder: RunFolder) -> None:
    """Once a second, never more than there are."""
    rows, told = made(folder)[:2], list[int]()
    slow = [replace(row, num_inference_steps=100) for row in rows]
    with made_again(slow, "sim:1:25", tell=told.append) as again:
        assert len(again) == 2
    assert told and told == sorted(told) and told[0] == 0 and told[-1] <= 2


def test_what_keeps_the_process_from_working_is_one_line(folder: RunFolder) -> None:
    """A misspelt device and a checkpoint that is not here are the caller's, an absent NPU or a death the host's."""
    rows = made(folder)[:1]
    for devices, error, message in (
        ("simm", InputError, r"^--devices must be one of "),
        ("cpu:1", InputError, r"^checkpoint simulated must be packaged \(shapes\) or below --models, got none in "),
        ("npu:99", HostError, r"npu-smi"),
    ):
        with pytest.raises(error, match=message), made_again(rows, devices):
            pass
    dying = [replace(rows[0], prompt="sim:kill")]
    with pytest.raises(HostError, match=r"^the sampling process ended with code -9: "), made_again(dying, "sim:1"):
        pass


def test_verify_makes_images_again_and_says_what_is_not_as_it_was(folder: RunFolder, fleet: FleetCommand) -> None:
    """The seed that chose them is printed, so that the same ones can be looked at again."""
    done = fleet("verify", folder.url, "--replay", "2", "--replay-seed", "9", "--devices", "sim:1")
    assert done.returncode == 0, done.stderr
    sound, first, second, *differing, last = done.stdout.splitlines()
    assert sound.startswith("sound: ") and first.endswith(": same bytes") and second.endswith(": same bytes")
    assert "device_kind is simulated here, and cpu in 2 rows" in differing
    assert last == "made again: 2 images, 2 with the same bytes, --replay-seed 9"
    again = fleet("verify", folder.url, "--replay", "2", "--replay-seed", "9", "--devices", "sim:1", "--json")
    facts = json.loads(again.stdout)["replay"]
    assert facts["seed"] == 9
    assert [(image["same_bytes"], image["fault"]) for image in facts["images"]] == [(True, False)] * 2
    assert [f"{image['key']}: same bytes" for image in facts["images"]] == [first, second]


@pytest.mark.parametrize("options", [("--devices", "cpu:1"), ("--replay-seed", "1"), ("--models", "m")])
def test_options_of_a_replay_without_one_are_refused(
    folder: RunFolder, fleet: FleetCommand, options: tuple[str, str]
) -> None:
    """A person who gives them expects images to be made."""
    done = fleet("verify", folder.url, *options)
    assert done.returncode == 1 and f"{options[0]} must come with --replay" in done.stderr


def test_an_image_that_comes_out_otherwise_is_a_fault_where_all_else_is_equal(
    tmp_path: Path, fleet: FleetCommand
) -> None:
    """As if the row, and not the image, had been changed: no hash of a file shows that."""
    run = finished_run(str(tmp_path / "run"), [Request(prompt="a ring", num_images_per_prompt=2)])
    with made_again(list(run.records()), "sim:1") as again:
        here = next(iter(again.values()))
    conditions = {name: getattr(here, name) for name in ("device_kind", "dtype", "cpu_threads", "versions")}
    rows = [replace(row, seed=row.seed + 1, **conditions) for row in run.records()]
    run.store.put(part_path(0), encode_part(rows))
    manifest = run.read_manifest()
    assert manifest is not None
    entry = file_entry(part_path(0), run.store.get(part_path(0)))
    files = tuple(entry if each.path == entry.path else each for each in manifest.files)
    run.write_manifest(manifest.model_copy(update={"files": files}))
    done = fleet("verify", run.url, "--replay", "1", "--devices", "sim:1")
    assert done.returncode == 3
    assert "bytes differ, pixels by at most " in done.stdout and done.stdout.startswith("sound: ")


def test_replay_writes_an_image_from_its_row_alone(folder: RunFolder, fleet: FleetCommand, tmp_path: Path) -> None:
    """The same file; a row that failed says again why."""
    row = made(folder)[3]
    done = fleet("replay", folder.url, row.key, "--out", "again", "--devices", "sim:1")
    assert done.returncode == 0, done.stderr
    written = tmp_path / "again" / f"{row.key}.jpg"
    assert done.stdout.splitlines()[0] == f"{row.key}: same bytes"
    assert done.stdout.splitlines()[-1] == f"written: again/{row.key}.jpg"
    assert written.read_bytes() == read_image(folder, row)
    assert [path.name for path in written.parent.iterdir()] == [written.name]
    failed = fleet("replay", folder.url, "000010000", "--out", "again", "--devices", "sim:1")
    assert failed.returncode == 3
    assert failed.stdout.startswith("000010000: could not be made again: SampleError: ")


def test_replay_writes_over_nothing(folder: RunFolder, fleet: FleetCommand, tmp_path: Path) -> None:
    """And says so before it spends minutes."""
    (tmp_path / "000000001.jpg").write_bytes(b"mine")
    for out, line in ((".", "the output must be free, but there is 000000001.jpg; "), ("000000001.jpg", "--out")):
        done = fleet("replay", folder.url, "000000001", "--out", out)
        assert done.returncode == 1 and line in done.stderr
    assert (tmp_path / "000000001.jpg").read_bytes() == b"mine"
