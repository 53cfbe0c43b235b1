"""What is added to a run after it was planned: all of it counts, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddim_core.contracts.changes import Extension, RetryList, RetryOrder
from ddim_core.errors import StorageError
from ddim_core.storage.changes import (
    add_change,
    change_path,
    claim_extension,
    retried_path,
    write_retry_list,
)
from ddim_core.storage.commits import Commits
from ddim_core.storage.run_folder import MANIFEST, RunFolder, file_entry, part_path
from tests.unit.storage.runs import SmallRun, write_run

AT = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Give a finished run of two chunks with two images each."""
    return write_run(str(tmp_path / "run"), SmallRun())


def extension(first_chunk: int, images: int = 3) -> Extension:
    """Return an extension by two chunks."""
    return Extension(
        created_at=AT,
        first_chunk=first_chunk,
        request_count=images,
        image_count=images,
        chunk_count=2,
        requests_digest=f"sha256:{images}",
    )


def order(name: str = "0123456789abcdef") -> RetryOrder:
    """Return a retry order."""
    return RetryOrder(created_at=AT, name=name, images=1, chunks=1)


def test_a_plan_counts_what_was_added_and_knows_the_size_of_each_chunk(folder: RunFolder) -> None:
    """The last chunk before an extension may be short, as may the last of all."""
    plan = folder.read_plan()
    first = add_change(folder.store, plan, extension(2))
    assert first is not None
    second = add_change(folder.store, first, extension(4, images=4))
    assert second == folder.read_plan() == folder.read_plan(plan)
    assert (second.request_count, second.image_count, second.chunk_count, second.generation) == (11, 11, 6, 2)
    assert [second.images_in(chunk) for chunk in range(6)] == [2, 2, 2, 1, 2, 2]
    assert b"changes" not in folder.store.get("run.json")


def test_of_two_changes_at_once_one_counts(folder: RunFolder) -> None:
    """The other command is told, and looks again before it goes on."""
    plan = folder.read_plan()
    assert add_change(folder.store, plan, order()) is not None
    assert add_change(folder.store, plan, extension(2)) is None
    assert folder.read_plan().changes == (order(),)


def test_a_change_that_does_not_fit_is_told_with_its_place(folder: RunFolder) -> None:
    """Chunks that lie apart, or a file that was cut short."""
    folder.store.put(change_path(1), extension(7).model_dump_json().encode())
    with pytest.raises(StorageError, match=r"changes/0001\.json is damaged: first_chunk must be 2, got 7$"):
        folder.read_plan()
    folder.store.put(change_path(1), b'{"kind": "ext')
    with pytest.raises(StorageError, match=r"changes/0001\.json is damaged: "):
        folder.read_plan()


def test_a_manifest_holds_for_one_generation(folder: RunFolder) -> None:
    """Of an older one it is none, whoever asks."""
    manifest, plan = folder.read_manifest(), folder.read_plan()
    assert manifest is not None and folder.read_totals() is not None
    later = add_change(folder.store, plan, order())
    assert folder.read_manifest() is None and folder.read_totals() is None and folder.read_totals(later) is None
    folder.write_manifest(manifest.model_copy(update={"generation": 1}))
    assert folder.read_manifest() is not None and folder.read_totals(later) is not None


def test_totals_are_read_without_the_list_of_files(folder: RunFolder) -> None:
    """Also from a manifest that another program has laid out anew, and none from a damaged one."""
    manifest = folder.read_manifest()
    assert manifest is not None
    totals = folder.read_totals()
    assert totals is not None and not hasattr(totals, "files")
    assert totals.model_dump() == manifest.model_dump(exclude={"files"})
    folder.store.put(MANIFEST, manifest.model_dump_json().encode())
    assert folder.read_totals() == manifest == folder.read_manifest()
    folder.store.put(MANIFEST, b'{\n "version": 2,\n "files": [\n ]\n}\n')
    with pytest.raises(StorageError, match=r"manifest\.json is damaged"):
        folder.read_totals()


def test_a_chunk_that_is_ordered_again_is_done_when_its_part_is_another(folder: RunFolder) -> None:
    """The mark saves reading the part; where only that is missing, whoever looks at the chunk writes it."""
    entry = file_entry("part", folder.store.get(part_path(1)))
    write_retry_list(folder.store, order(), RetryList(parts={1: entry.sha256}))
    plan = add_change(folder.store, folder.read_plan(), order())
    assert plan is not None
    commits = Commits.of(folder, plan)
    assert commits.chunks() == {0} and commits.has(0) and not commits.has(1)
    folder.store.put(part_path(1), folder.store.get(part_path(0)))
    assert commits.chunks() == {0}
    assert commits.has(1) and folder.store.exists(retried_path(order().name, 1))
    assert commits.chunks() == {0, 1}
    folder.store.delete(part_path(1))
    assert commits.chunks() == {0} and not commits.has(1)


def test_an_extension_is_claimed_by_one_and_may_be_taken_over(folder: RunFolder) -> None:
    """The same requests may be given again."""
    mine, other = extension(2), extension(2, images=4)
    assert claim_extension(folder.store, mine) == mine
    assert claim_extension(folder.store, other) == mine
    assert claim_extension(folder.store, other, take_over=True) == other
    assert claim_extension(folder.store, mine) == other
