"""Every way in which a finished run can be damaged is named, in a folder and in a bucket."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ddim_core.contracts.request import Request
from ddim_core.errors import RunNotFoundError, RunUnfinishedError
from ddim_core.storage.run_folder import RunFolder, encode_part, file_entry, part_path, shard_path
from producer import Client
from producer.verify import RunCheck
from tests.integration.fleet_command import FleetCommand
from tests.integration.worker_host import Workers, plan_run, send, wait_for
from tests.unit.storage.runs import SmallRun, write_run
from tools.servers import RedisServer

RUN = SmallRun(
    prompts=("a red square", "a green circle", "a blue square", "fails", "a red circle", "a green square"),
    failing=frozenset({"fails"}),
)
FILES = replace(RUN, container="imagefolder")
LOOSE = replace(RUN, container="files")
SHARD, PART, IMAGE, LOOSE_IMAGE = shard_path(0), part_path(0), "images/000000000.png", "images/r0_0.png"


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a run goes, in a store of each kind."""
    return str(tmp_path / "run") if request.param == "folder" else f"{request.getfixturevalue('s3_url')}/run"


def faults(folder: RunFolder) -> list[str]:
    """Return the faults of a run as lines."""
    return [str(fault) for fault in RunCheck(folder).faults()]


def flip(data: bytes, at: int) -> bytes:
    """Return the data with one byte changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def change(folder: RunFolder, path: str, edit: Callable[[bytes], bytes]) -> None:
    """Change an object behind the manifest's back."""
    folder.store.put(path, edit(folder.store.get(path)))


def list_again(folder: RunFolder, path: str) -> None:
    """Make the manifest agree with an object that was changed: what is wrong then is within the object."""
    manifest = folder.read_manifest()
    assert manifest is not None
    entry = file_entry(path, folder.store.get(path))
    files = tuple(entry if each.path == path else each for each in manifest.files)
    folder.write_manifest(manifest.model_copy(update={"files": files}))


def rewrite_shard(folder: RunFolder, edit: Callable[[dict[str, bytes]], list[tuple[str, bytes]]]) -> None:
    """Write the first shard anew with other members, and list it."""
    with tarfile.open(fileobj=io.BytesIO(folder.store.get(SHARD))) as tar:
        members = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, data in edit(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    folder.store.put(SHARD, sink.getvalue())
    list_again(folder, SHARD)


@pytest.mark.parametrize("run", [RUN, FILES, LOOSE], ids=["webdataset", "imagefolder", "files"])
def test_a_run_as_it_was_finished_is_sound(url: str, run: SmallRun) -> None:
    """Failed rows, chunk totals and a report are no faults."""
    folder = write_run(url, run)
    folder.store.put("report.html", b"<html>")
    assert faults(folder) == []


@pytest.mark.parametrize(
    ("run", "path"), [(RUN, SHARD), (RUN, PART), (FILES, IMAGE), (LOOSE, LOOSE_IMAGE), (FILES, PART)]
)
def test_a_missing_file_is_named(url: str, run: SmallRun, path: str) -> None:
    """Once, and not again for each image in it."""
    folder = write_run(url, run)
    folder.store.delete(path)
    assert faults(folder) == [f"{path}: must be in the store, got nothing"]


@pytest.mark.parametrize(("run", "path"), [(RUN, SHARD), (FILES, IMAGE), (LOOSE, LOOSE_IMAGE)])
def test_a_truncated_file_is_named_with_both_sizes(url: str, run: SmallRun, path: str) -> None:
    """Loaders read a truncated tar without complaint; the images that are gone with it are named, too."""
    folder = write_run(url, run)
    size = folder.store.size_bytes(path)
    change(folder, path, lambda data: data[:150])
    found = faults(folder)
    assert found[0] == f"{path}: must have {size} bytes, got 150"
    inside = [line for line in found if line.startswith(f"{path}: 000000001.png must be in it")]
    assert len(inside) == (path == SHARD)


@pytest.mark.parametrize(("run", "path"), [(RUN, SHARD), (FILES, IMAGE), (RUN, PART)])
def test_a_changed_file_is_named_with_both_hashes(url: str, run: SmallRun, path: str) -> None:
    """One bit of it."""
    folder = write_run(url, run)
    before = folder.store.get(path)
    after = flip(before, 100)
    folder.store.put(path, after)
    line = f"{path}: must have sha256 {file_entry(path, before).sha256}, got {file_entry(path, after).sha256}"
    assert faults(folder)[0] == line


def test_the_image_that_a_bit_rotted_in_is_named(url: str) -> None:
    """The rest of the shard may still be used."""
    folder = write_run(url, RUN)
    change(folder, SHARD, lambda data: flip(data, 512 + 40))  # the first member begins at 512
    names = {line.split()[1] for line in faults(folder)[1:]}
    assert names == {"000000000.png"}


@pytest.mark.parametrize("path", ["shards/00009.tar", "images/000090000.png", "parts/00009.parquet"])
def test_what_the_manifest_does_not_list_is_named(url: str, path: str) -> None:
    """A glob for shards or parts would read it as part of the dataset."""
    folder = write_run(url, RUN)
    folder.store.put(path, b"more")
    assert faults(folder) == [f"{path}: must be listed in manifest.json, got 4 bytes that are not"]


def test_a_part_that_the_manifest_lost_is_named(url: str) -> None:
    """And is not called an extra object only."""
    folder = write_run(url, RUN)
    manifest = folder.read_manifest()
    assert manifest is not None
    files = tuple(entry for entry in manifest.files if entry.path != PART)
    folder.write_manifest(manifest.model_copy(update={"files": files}))
    assert faults(folder)[0] == f"manifest.json: must list {PART}, got nothing"


def test_a_key_that_comes_twice_or_not_at_all_is_named(url: str) -> None:
    """Twice in a part, and as a guest from another chunk."""
    folder = write_run(url, RUN)
    first, second = folder.read_records(0)
    guest = folder.read_records(1)[0]
    for rows in ([first, first, second], [second, guest]):
        folder.store.put(PART, encode_part(rows))
        list_again(folder, PART)
        found = faults(folder)
        if guest in rows:
            assert f"{PART}: 000000000 must be in one row, got none" in found
            assert f"{PART}: 000010000 must be in no row of this chunk, got 1 rows" in found
        else:
            assert found == [f"{PART}: 000000000 must be in one row, got 2 rows"]


def test_members_and_rows_that_disagree_are_named(url: str) -> None:
    """The manifest can be right about a shard's bytes while the shard is not what its part says."""
    folder = write_run(url, RUN)
    rewrite_shard(
        folder,
        lambda members: [
            ("000000000.png", b"another image"),
            *((name, data) for name, data in members.items() if name[8] == "0" and not name.endswith("png")),
            ("000000001.png", members["000000001.png"]),
            ("000000001.json", b"{}"),
            ("000000001.json", b"{}"),
            ("000000007.png", b"nobody's"),
        ],
    )
    row = folder.read_records(0)[0]
    got = file_entry("", b"another image").sha256
    assert sorted(faults(folder)) == [
        f"{SHARD}: 000000000.png must have sha256 {row.sha256}, as its row says, got {got}",
        f"{SHARD}: 000000001.json must be in it once, got it again",
        f"{SHARD}: 000000001.txt must be in it, got nothing",
        f"{SHARD}: 000000007.png must belong to a row of an image that was made, got none",
    ]


def test_rows_and_files_of_an_imagefolder_that_disagree_are_named(url: str) -> None:
    """The row's hash is another one than the manifest's, or the manifest does not know the row's file."""
    folder = write_run(url, FILES)
    first, second = folder.read_records(0)
    wrong = replace(first, sha256="00"), replace(second, path="images/elsewhere.png")
    folder.store.put(PART, encode_part(wrong))
    list_again(folder, PART)
    assert faults(folder) == [
        f"{PART}: 000000000 must have sha256 {first.sha256}, got 00",
        "manifest.json: 000000001 must be listed as images/elsewhere.png, got nothing",
    ]


def test_what_is_no_part_and_no_shard_is_said(url: str) -> None:
    """Listed with their true hashes, as if a bad program had written them."""
    folder = write_run(url, RUN)
    for path in (PART, shard_path(1)):
        folder.store.put(path, b"x" * 5000)
        list_again(folder, path)
    found = faults(folder)
    assert found[0].startswith(f"{PART}: must be a Parquet file of a run's rows, got ")
    assert any(line.startswith(f"{shard_path(1)}: must be a whole tar file, got no tar file (") for line in found)


def test_totals_that_the_parts_do_not_come_to_are_named(url: str) -> None:
    """A manifest that was edited by hand."""
    folder = write_run(url, RUN)
    manifest = folder.read_manifest()
    assert manifest is not None
    folder.write_manifest(manifest.model_copy(update={"images": 7}))
    assert faults(folder) == [
        "manifest.json: must count 6 images, made and failed, got 8",
        "manifest.json: must count 5 images made, as the parts do, got 7",
    ]


def test_a_file_that_the_manifest_lists_twice_is_named(tmp_path: Path) -> None:
    """The second entry may be another one than the first."""
    folder = write_run(str(tmp_path / "run"), RUN)
    manifest = folder.read_manifest()
    assert manifest is not None
    folder.write_manifest(manifest.model_copy(update={"files": (*manifest.files, manifest.files[0])}))
    assert faults(folder) == [f"manifest.json: {manifest.files[0].path} must be listed once, got 2 times"]


@pytest.mark.parametrize("at", [0, 124, 150, 156, 257, 345])
def test_a_damaged_header_is_named_by_the_shards_hash(tmp_path: Path, at: int) -> None:
    """In the name, the size, the checksum, the kind, the magic word or the prefix of the second member."""
    folder = write_run(str(tmp_path / "run"), RUN)
    data = folder.store.get(SHARD)
    header = data.index(b"000000000.txt")
    change(folder, SHARD, lambda data: flip(data, header + at))
    assert faults(folder)[0].startswith(f"{SHARD}: must have sha256 ")


def test_a_shard_that_another_program_packed_is_read_as_well(tmp_path: Path) -> None:
    """With headers of the kinds that we do not write: the images are what counts."""
    folder = write_run(str(tmp_path / "run"), RUN)
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT):
        with tarfile.open(fileobj=io.BytesIO(folder.store.get(SHARD))) as tar:
            members = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w", format=kind) as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.uname = len(data), 1, "somebody"
                tar.addfile(info, io.BytesIO(data))
        folder.store.put(SHARD, sink.getvalue())
        list_again(folder, SHARD)
        assert faults(folder) == []


def test_a_run_without_a_manifest_is_refused_with_the_way_to_finish_it(url: str) -> None:
    """And where there is no run, that is said."""
    with pytest.raises(RunNotFoundError):
        RunCheck(RunFolder(url))
    folder = write_run(url, replace(RUN, committed=1))
    with pytest.raises(RunUnfinishedError, match=r"^the run must be finished, got 1 of 3 chunks and no manifest\.json"):
        RunCheck(folder)


def test_the_command_prints_a_line_a_fault_and_exits_with_3(fleet: FleetCommand, url: str) -> None:
    """0 for a sound run; the same as JSON, and from Python."""
    folder = write_run(url, RUN)
    sound = fleet("verify", url)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert sound.stdout.startswith("sound: 6 files, ") and sound.stdout.endswith(" MB, 5 images\n")
    folder.store.delete(SHARD)
    broken = fleet("verify", url)
    assert broken.returncode == 3
    line, summary = broken.stdout.splitlines()
    assert line == f"{SHARD}: must be in the store, got nothing"
    assert summary.startswith("1 fault in 6 files, ")
    as_json = fleet("verify", url, "--json")
    facts = json.loads(as_json.stdout)
    assert (as_json.returncode, facts["sound"], facts["images"]) == (3, False, 5)
    assert facts["faults"] == [{"path": SHARD, "key": None, "rule": "must be in the store", "got": "nothing"}]
    assert [fault.path for fault in Client().run(url).verify()] == [SHARD]


def test_the_command_exits_with_1_where_there_is_nothing_to_verify(fleet: FleetCommand, url: str) -> None:
    """No run, or one that is not finished."""
    assert fleet("verify", url).returncode == 1
    folder = write_run(url, replace(RUN, committed=1))
    done = fleet("verify", url)
    assert done.returncode == 1
    assert done.stderr.endswith(f"to finish it: ddim-fleet resume {folder.url}\n")


def test_a_manifest_with_many_chunks_is_checked_in_order(tmp_path: Path) -> None:
    """More chunks than are begun at once."""
    folder = write_run(str(tmp_path / "run"), SmallRun(prompts=("a red square",) * 150, images_per_chunk=1, side_px=16))
    for chunk in (3, 77, 149):
        folder.store.delete(shard_path(chunk))
    assert [fault.path for fault in RunCheck(folder).faults()] == [shard_path(chunk) for chunk in (3, 77, 149)]


def test_a_damaged_chunk_is_mended_by_making_it_again(
    redis_server: RedisServer, tmp_path: Path, start_workers: Callable[..., Workers], fleet: FleetCommand
) -> None:
    """Without its part and the manifest the run is an unfinished one, and the shard comes out as it was."""
    folder = plan_run(
        str(tmp_path / "run"), [Request(prompt="a star", num_images_per_prompt=24, num_inference_steps=2)]
    )
    send(redis_server, folder)
    start_workers("sim:1")
    wait_for(lambda: folder.read_manifest() is not None, 30)
    path = shard_path(1)
    shard = folder.store.get(path)
    change(folder, path, lambda data: flip(data, 600))
    assert {line.split(":")[0] for line in faults(folder)} == {path}
    folder.store.delete(part_path(1))
    folder.store.delete("manifest.json")
    assert fleet("resume", folder.url, "--broker", redis_server.url).stderr.startswith("queued 1 chunk of ")
    wait_for(lambda: folder.read_manifest() is not None, 30)
    assert faults(folder) == []
    assert folder.store.get(path) == shard
