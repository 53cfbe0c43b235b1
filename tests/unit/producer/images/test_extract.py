"""A folder of images: each whole, each what its row says, and none fetched twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.contracts.plan import Container
from ddim_core.contracts.record import SUCCESS
from ddim_core.errors import InputError, OutputError, StorageError
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import RunFolder, encode_part, part_path, shard_path
from producer.images.extract import Batch, extract
from producer.images.target import Target, Wish
from producer.main import exit_code_of
from tests.unit.producer.images.conftest import IDS, Written
from tests.unit.storage.runs import draw, small_plan, write_run


def files(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder, hidden files too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def drawn(folder: RunFolder) -> dict[str, bytes]:
    """Return by key what each image of a run must be."""
    return {row.key: draw(row.prompt, 64) for row in folder.records() if row.status == SUCCESS}


@pytest.mark.parametrize("container", ["webdataset", "imagefolder", "files"])
def test_all_images_become_files_named_after_their_requests(
    written: Written, tmp_path: Path, container: Container
) -> None:
    """Whatever they were in, under the same names: what is fit for a file name as it is, all else with a hash."""
    folder, found = written(container=container), {}
    extraction = extract(folder, tmp_path / "out", tell=lambda batch: found.update(batch.paths))
    assert (extraction.written, extraction.there, extraction.fault_count) == (12, 0, 0)
    images = drawn(folder)
    assert {path.name: path.read_bytes() for path in found} == {
        path.name: images[row.key] for path, row in found.items()
    }
    names = sorted(files(tmp_path / "out"))
    assert names == sorted(path.name for path in found)
    named = [name.rpartition("_")[0].split("~")[0] for name in names if name.endswith("_0.png")]
    assert named == ["000010000", "a" * 60, "star-7", "star-7", "x"]
    assert {"000020000.png", "000020001.png", "star-7_0.png", "000010000_1.png"} <= set(names)


def test_some_images_are_chosen_by_name(written: Written, tmp_path: Path) -> None:
    """Nothing else is written; with an unknown name among them, nothing at all."""
    folder = written()
    extract(folder, tmp_path / "some", Wish(["star-7", "000050001"]))
    assert len(files(tmp_path / "some")) == 3
    with pytest.raises(InputError, match=r"'nobody' is neither$"):
        extract(folder, tmp_path / "none", Wish(["star-7", "nobody"]))
    assert not (tmp_path / "none").exists()


def test_captions_and_rows_lie_beside_the_images(written: Written, tmp_path: Path) -> None:
    """The row as JSON, with what it holds as JSON in a text as objects; a caption that was edited stays."""
    folder = written(ids=("star-7",))
    extract(folder, tmp_path, Wish(captions=True, rows=True, names=["star-7"]))
    row = json.loads((tmp_path / "star-7_0.json").read_text())
    assert (row["key"], row["metadata"], row["scheduler"]["beta_start"]) == ("000000000", {}, 0.00085)
    caption = tmp_path / "star-7_1.txt"
    assert caption.read_text() == "a red square 0"
    caption.write_text("mine")
    (tmp_path / "star-7_0.txt").unlink()
    extract(folder, tmp_path, Wish(captions=True))
    assert (caption.read_text(), (tmp_path / "star-7_0.txt").read_text()) == ("mine", "a red square 0")
    extract(folder, tmp_path, Wish(captions=True, replace=True))
    assert caption.read_text() == "a red square 0"


def test_what_is_there_is_not_fetched_again(written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its sha256: not read, not written; one that is missing is fetched alone."""
    folder = written()
    extract(folder, tmp_path / "out")
    before = {path: path.stat() for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "star-7_1.png").unlink()
    read: list[str] = []
    get_range = ObjectStore.get_range

    def noted(store: ObjectStore, path: str, start: int, size_bytes: int) -> bytes:
        read.append(path)
        return get_range(store, path, start, size_bytes)

    monkeypatch.setattr(ObjectStore, "get_range", noted)
    extraction = extract(folder, tmp_path / "out")
    assert (extraction.written, extraction.there) == (1, 11)
    assert set(read) == {shard_path(0)}
    after = {path: path.stat() for path in (tmp_path / "out").iterdir()}
    same = [path for path in before if path.name != "star-7_1.png"]
    assert [(after[path].st_ino, after[path].st_mtime_ns) for path in same] == [
        (before[path].st_ino, before[path].st_mtime_ns) for path in same
    ]


KILLED = """
import os, signal, sys
from pathlib import Path
from producer.images import target
from producer.main import exit_code_of

left = int(sys.argv[1])
real = Path.write_bytes

def half(path, data):
    global left
    left -= 1
    if left < 0:
        real(path, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    return real(path, data)

Path.write_bytes = half
exit_code_of(sys.argv[2:])
"""


def test_a_kill_in_the_middle_leaves_nothing_half_written(written: Written, tmp_path: Path) -> None:
    """Each file that has a name is whole; the same command again brings the rest, and clears up."""
    folder, out = written(), tmp_path / "out"
    arguments = ["extract", folder.url, "--out", str(out), "--captions"]
    code = subprocess.run([sys.executable, "-c", KILLED, "9", *arguments], check=False).returncode
    assert code == -9
    seen = files(out)
    whole = set(drawn(folder).values())
    assert 1 <= len([name for name in seen if name.startswith(".")]) <= 2  # two threads write
    assert all(data in whole for name, data in seen.items() if name.endswith(".png"))
    assert exit_code_of(arguments) == 0
    found = files(out)
    assert len([name for name in found if name.endswith(".png")]) == 12
    assert len(found) == 24
    assert {name: found[name] for name in seen if not name.startswith(".")} == {
        name: data for name, data in seen.items() if not name.startswith(".")
    }


def test_another_file_of_the_same_name_is_left_alone(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All others are written, and the exit code is 3; with --replace it is written over; an empty one always."""
    folder = written()
    (tmp_path / "out").mkdir()
    mine, empty = tmp_path / "out" / "star-7_0.png", tmp_path / "out" / "star-7_1.png"
    mine.write_bytes(b"mine")
    empty.touch()
    arguments = ["extract", folder.url, "--out", str(tmp_path / "out")]
    assert exit_code_of(arguments) == 3
    fault = f"fault: {mine} must be free or hold image 000000000, got another file; see --replace\n"
    assert capsys.readouterr().err == fault
    assert mine.read_bytes() == b"mine"
    assert len(files(tmp_path / "out")) == 12
    assert empty.read_bytes() == drawn(folder)["000000001"]
    assert exit_code_of([*arguments, "--replace"]) == 0
    assert mine.read_bytes() == drawn(folder)["000000000"]


def test_what_is_damaged_in_the_run_is_not_written(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shard that was cut and one that is gone: each image that they lack is named, all others are there."""
    folder = written()
    folder.store.put(shard_path(0), folder.store.get(shard_path(0))[:700])
    folder.store.delete(shard_path(3))
    assert exit_code_of(["extract", folder.url, "--out", str(tmp_path / "out")]) == 3
    faults = capsys.readouterr().err.splitlines()
    assert [line.split(" must ")[0] for line in faults] == [
        f"fault: image {key}" for key in ("000000000", "000000001", "000030000", "000030001")
    ]
    assert len(files(tmp_path / "out")) == 8


def test_a_run_that_is_not_finished_gives_what_it_has(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says what is missing, and what could not be made."""
    folder = written(committed=3, failing=frozenset({"a green square 1"}))
    assert exit_code_of(["extract", folder.url, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert told.out == f"4 images in {tmp_path / 'out'}\n"
    assert told.err.splitlines() == [
        f"2 images could not be made: ddim-fleet failed {folder.url}",
        "3 chunks of the run not done yet: give the command again for the rest",
    ]
    assert len(files(tmp_path / "out")) == 4


@pytest.mark.parametrize("names", [[], ["star-7"], ["000010000"]])
def test_a_part_that_goes_while_it_is_read_is_the_stores_fault(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    """Somebody deletes it to have its chunk made again: one line, not a fault of the program."""
    folder = written()
    monkeypatch.setattr(folder, "committed_chunks", lambda: set(range(6)))
    folder.store.delete(part_path(1))
    with pytest.raises(StorageError, match=r"^a part must stay while its run is read, but \S*1\.parquet is gone"):
        extract(folder, tmp_path / "out", Wish(names))


def test_an_output_that_is_no_folder_here_is_refused(written: Written, tmp_path: Path) -> None:
    """In a line, before anything is read."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"^the output must be a folder, got \S*file: File exists$"):
        extract(written(), tmp_path / "file")
    for out in ("s3://bucket/x", "file:///tmp/x"):
        with pytest.raises(InputError, match=rf"^--out must be a folder on this machine, got '{out}'"):
            extract(RunFolder(str(tmp_path / "run")), out)


def test_two_extractions_do_not_write_to_one_folder(written: Written, tmp_path: Path) -> None:
    """One could give a name to what the other is still writing; the lock goes with its holder."""
    folder = written()
    with (
        Target(tmp_path / "out", folder.read_plan(), Wish()),
        pytest.raises(
            OutputError, match=rf"^the output must be free, but another extract writes to {tmp_path / 'out'}$"
        ),
    ):
        extract(folder, tmp_path / "out")
    assert extract(folder, tmp_path / "out").written == 12


def test_a_full_disk_is_one_line_and_leaves_no_half_file(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written stays."""
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "star-7_1" in path.name:
            real(path, data[:10])
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"star-7_1\.png: No space left on device; .* give the command again$"):
        extract(written(), tmp_path / "out")
    assert "star-7_0.png" in files(tmp_path / "out")
    assert not [name for name in files(tmp_path / "out") if name.startswith(".") or "star-7_1" in name]


def test_a_row_that_somebody_changed_writes_nothing(written: Written, tmp_path: Path) -> None:
    """Another hash is a fault of the image; a path that leads out of the run is refused by the store."""
    folder = written(container="files")
    first, second = folder.read_records(0)
    (tmp_path / "secret").write_text("secret")
    folder.store.put(part_path(0), encode_part([replace(first, sha256="0" * 64), second]))
    faults: list[Batch] = []
    extract(folder, tmp_path / "out", tell=faults.append)
    assert len(files(tmp_path / "out")) == 11
    assert [fault.split(" must ")[0] for batch in faults for fault in batch.faults] == ["image 000000000"]
    folder.store.put(part_path(0), encode_part([replace(first, path="../secret"), second]))
    with pytest.raises(StorageError, match=r"must lead into its store, got '\.\./secret'"):
        extract(folder, tmp_path / "again")
    assert "star-7_0.png" not in files(tmp_path / "again")


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=20, unique=True))
def test_no_two_images_have_one_name_and_none_leads_out(run: RunFolder, target: Target, ids: list[str]) -> None:
    """Whatever requests are called, on file systems that take capitals for small letters, too."""
    row = run.read_records(0)[0]
    rows = [
        replace(row, custom_id=name, request_index=number, image=image, key=f"{number:05d}{image:04d}")
        for number, name in enumerate(ids)
        for image in (0, 11)
    ]
    names = [target.path(each).name for each in rows]
    assert len({name.lower() for name in names}) == len(names)
    assert all(len(f".{name}.part".encode()) < 255 for name in names)
    assert {target.path(each).parent for each in rows} == {target.path(row).parent}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run that no test changes."""
    yield write_run(str(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A folder that no test writes to."""
    return Target(tmp_path_factory.mktemp("out"), small_plan(), Wish())


def test_a_large_run_goes_into_folders_of_ten_thousand(tmp_path: Path, run: RunFolder) -> None:
    """As a run of image files does: more in one folder is slow, and too many for loaders."""
    plan = small_plan().model_copy(update={"images_per_chunk": 1000, "chunk_count": 100})
    target, row = Target(tmp_path, plan, Wish()), run.read_records(0)[0]
    for chunk, place in ((0, "r0_0.png"), (9, "r0_0.png"), (10, "00001/r0_0.png"), (99, "00009/r0_0.png")):
        assert target.path(replace(row, key=f"{chunk:05d}0000")) == tmp_path / place
    assert len(IDS) == 6
