"""Adding up a manifest."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ddim_core.contracts.changes import RetryList, RetryOrder
from ddim_core.contracts.manifest import ChunkStats, FileEntry, Manifest
from ddim_core.errors import SampleError
from ddim_core.storage.changes import add_change, write_retry_list
from ddim_core.storage.commits import Commits
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import RunFolder, encode_part, file_entry, part_path, shard_path
from tests.unit.storage.runs import write_run
from tests.unit.workers.samples import items, picture, plan, records
from tools.large_run import write_large_run
from workers.chunks.commit import Clock, commit_chunk
from workers.chunks.records import Made
from workers.coordination.connection import Board
from workers.coordination.leases import Leases
from workers.finishing import finisher as finish
from workers.finishing.finisher import Contents, Finisher
from workers.runs import OpenRun, Runs


def stats(chunk: int) -> ChunkStats:
    """Return the totals of a chunk that began ``chunk`` minutes past the hour and took ten seconds."""
    return ChunkStats(
        chunk=chunk,
        images=3,
        failed=1,
        attempts=1,
        seconds=10.0,
        started_at=f"2026-01-01T00:0{chunk}:00.000+00:00",
        finished_at=f"2026-01-01T00:0{chunk}:10.000+00:00",
        worker="w",
        device="cpu:0",
        files=(FileEntry(path=f"shards/{chunk:05d}.tar", size_bytes=1, sha256="s"),),
    )


def test_a_manifest_adds_up_its_chunks() -> None:
    """Sums, the time from the first start to the last end, and the files in the order of the chunks."""
    run, contents = plan(4, chunk_count=5), Contents()
    for chunk in (stats(chunk) for chunk in range(5)):
        contents.add(chunk)
    manifest = Manifest.model_validate_json(contents.files.manifest(contents.totals(run)))
    assert (manifest.images, manifest.failed, manifest.chunks, manifest.seconds) == (15, 5, 5, 250.0)
    assert [entry.path for entry in manifest.files] == [f"shards/{chunk:05d}.tar" for chunk in range(5)]
    assert (manifest.started_at, manifest.finished_at) == (
        "2026-01-01T00:00:00.000+00:00",
        "2026-01-01T00:04:10.000+00:00",
    )


def test_a_readme_that_was_there_before_is_left_as_it_is(tmp_path: Path) -> None:
    """Somebody may make a run in the folder of a project; the run's own card is written anew."""
    folder = small_run(tmp_path)
    folder.store.put("README.md", b"# My project")
    assert paths(finished(folder)) == {"croissant.json"}
    assert folder.store.get("README.md") == b"# My project"
    card = folder.store.get("croissant.json")
    folder.store.put("croissant.json", card + b"\n")
    folder.store.delete("README.md")
    folder.store.delete("manifest.json")
    assert paths(finished(folder)) == {"README.md", "croissant.json"}
    assert folder.store.get("croissant.json") == card


def test_a_part_of_another_worker_is_listed_with_its_own_digest(tmp_path: Path) -> None:
    """Two may commit a chunk at once, with parts of the same size: totals of one, part of the other."""
    folder = small_run(tmp_path)
    part = folder.store.get(part_path(0))
    made_elsewhere = [replace(record, device="Ascend:7") for record in folder.read_records(0)]
    folder.store.put(part_path(0), encode_part(made_elsewhere))
    theirs = folder.store.get(part_path(0))
    assert len(theirs) == len(part) and theirs != part
    for entry in finished(folder).files:
        assert file_entry(entry.path, folder.store.get(entry.path)) == entry


def test_a_chunk_that_another_worker_committed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Its shard may hold an image that failed here."""
    folder = RunFolder(str(tmp_path / "run"))
    rows = [Made(records(1).success(items(1)[0], b"png", shard_path(0), picture(items(1)[0].spec)), b"png")]
    assert commit_chunk(Commits(folder), 0, rows, records(1), Clock()) is not None
    shard, part = folder.store.get(shard_path(0)), folder.store.get(part_path(0))
    failed = [Made(records(1).failure(items(1)[0], SampleError("NaN")), None)]
    assert commit_chunk(Commits(folder), 0, failed, records(1), Clock()) is None
    other = [Made(records(1).success(items(1)[0], b"another", shard_path(0), picture(items(1)[0].spec)), b"another")]
    assert commit_chunk(Commits(folder), 0, other, records(1), Clock()) is None
    assert (folder.store.get(shard_path(0)), folder.store.get(part_path(0))) == (shard, part)


@pytest.mark.parametrize(
    ("container", "path"),
    [("imagefolder", "images/000000000.png"), ("files", "images/c_0.png"), ("webdataset", shard_path(0))],
)
def test_nothing_is_left_of_an_image_that_failed_at_last(tmp_path: Path, container: str, path: str) -> None:
    """An earlier attempt may have written it before its worker died; loaders take every file that they find."""
    folder = RunFolder(str(tmp_path / "run"))
    maker = records(1, container=container, attempts=2)
    folder.store.put(path, b"from the first attempt")
    (item,) = items(1, container=container)
    commit_chunk(Commits(folder), 0, [Made(maker.failure(item, SampleError("NaN")), None)], maker, Clock())
    assert not folder.store.exists(path)


def test_a_run_that_is_changed_while_it_is_added_up_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts may have been read before they were replaced: the next finish reads them again."""
    folder = small_run(tmp_path)
    run, board = OpenRun.read(folder), Board("redis://127.0.0.1:1/0")
    finisher = Finisher(board, Leases(board, "host/cpu:0/1"), Runs())
    order = RetryOrder(created_at="2026-01-01T00:00:00+00:00", name="0123456789abcdef", images=1, chunks=1)

    def cards_then_change(*arguments: object) -> bytes:
        write_retry_list(folder.store, order, RetryList(parts={1: "another"}))
        assert add_change(folder.store, run.plan, order) is not None
        return b"card"

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(finish, "dataset_card", cards_then_change)
        assert not finisher.finish(run)
    assert not folder.store.exists("manifest.json")
    assert run.again().commits.has(1)  # its part is not the one that was meant
    assert finisher.finish(run)
    manifest = folder.read_manifest()
    assert manifest is not None and manifest.generation == 1


def test_a_large_run_is_finished_in_little_memory_and_with_one_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each chunk only sums and the lines of its files are kept: less than a kilobyte, where objects took ten."""
    write_large_run(tmp_path / "run", 600, fail_every=100)
    folder, listed, list_objects = RunFolder(str(tmp_path / "run")), list[str](), ObjectStore.list

    def noting(store: ObjectStore, prefix: str) -> Iterator[tuple[str, int]]:
        listed.append(prefix)
        return list_objects(store, prefix)

    monkeypatch.setattr(ObjectStore, "list", noting)
    monkeypatch.setattr(finish, "LISTED_LIMIT", 0)  # what a card for machines lists has a limit of its own
    tracemalloc.start()
    manifest = finished(folder)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (manifest.images, manifest.failed, manifest.chunks, listed) == (594, 6, 600, ["parts"])
    assert peak_bytes < 3_000_000
    for entry in [manifest.files[0], *manifest.files[-3:]]:
        assert file_entry(entry.path, folder.store.get(entry.path)) == entry


def small_run(tmp_path: Path) -> RunFolder:
    """Return a run whose chunks are committed and whose manifest is missing."""
    folder = write_run(str(tmp_path / "run"))
    folder.store.delete("manifest.json")
    return folder


def finished(folder: RunFolder) -> Manifest:
    """Finish the run, without Redis."""
    board = Board("redis://127.0.0.1:1/0")
    assert Finisher(board, Leases(board, "host/cpu:0/1"), Runs()).finish(OpenRun.read(folder))
    manifest = folder.read_manifest()
    assert manifest is not None
    return manifest


def paths(manifest: Manifest) -> set[str]:
    """Return the files at the top of a run's folder that the manifest lists."""
    return {entry.path for entry in manifest.files if "/" not in entry.path}
