"""Every verb of a store behaves the same on a folder, on moto and on Swift."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ddim_core.errors import RunExistsError
from ddim_core.storage.bucket import SMALL_BYTES
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import RunFolder
from tests.unit.storage.runs import small_plan

ODD_NAME = "d/ä b %41 #1? +&=.txt"


@pytest.fixture(params=["folder", "s3", "swift"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A store of each kind, below a prefix that needs care in a URL."""
    if request.param == "folder":
        return ObjectStore(str(tmp_path / "run 1" / "100% ü"))
    return ObjectStore(f"{request.getfixturevalue(f'{request.param}_url')}/run 1/100%25 ü")


def test_what_is_put_can_be_got_listed_and_deleted(store: ObjectStore) -> None:
    """The round of an object, with a name that must not be encoded twice."""
    store.put(ODD_NAME, b"first")
    store.put(ODD_NAME, b"second")
    assert store.get(ODD_NAME) == b"second"
    assert store.size_bytes(ODD_NAME) == 6
    assert list(store.list("d")) == [(ODD_NAME, 6)]
    store.delete(ODD_NAME)
    assert not store.exists(ODD_NAME)


def test_what_is_not_there_is_nothing_and_no_failure(store: ObjectStore) -> None:
    """Readers poll for objects that may come later."""
    assert not store.exists("missing")
    assert store.size_bytes("missing") is None
    assert list(store.list("missing")) == []
    store.delete("missing")
    with pytest.raises(FileNotFoundError, match="/missing"):
        store.get("missing")


def test_a_large_object_comes_in_pieces(store: ObjectStore) -> None:
    """Whoever hashes a shard holds one piece of it at a time; a missing one is told as ``get`` does."""
    data = bytes(range(256)) * (12 << 10)  # 3 MiB
    store.put("large", data)
    pieces = list(store.pieces("large"))
    assert b"".join(pieces) == data and len(pieces) >= 3
    with pytest.raises(FileNotFoundError, match="/missing"):
        list(store.pieces("missing"))


def test_a_prefix_is_a_folder_and_not_the_start_of_a_name(store: ObjectStore) -> None:
    """``parts`` must not list ``parts-old/``."""
    for path in ("parts/a", "parts/deep/b", "parts-old/c", "d"):
        store.put(path, b"x")
    assert sorted(store.list("parts")) == [("parts/a", 1), ("parts/deep/b", 1)]
    assert sorted(path for path, _ in store.list("")) == ["d", "parts-old/c", "parts/a", "parts/deep/b"]


def test_a_new_object_is_written_once(store: ObjectStore) -> None:
    """Also where a conditional put is answered with 501, as Swift does."""
    assert store.put_new("run.json", b"first")
    assert not store.put_new("run.json", b"second")
    assert store.get("run.json") == b"first"


@pytest.mark.parametrize("size_bytes", [0, 1, SMALL_BYTES, 12_000_000])
def test_an_object_of_any_size_comes_back_whole(store: ObjectStore, size_bytes: int) -> None:
    """Large ones go up in pieces."""
    data = bytes(range(256)) * (size_bytes // 256) + b"x" * (size_bytes % 256)
    store.put("shards/00000.tar", data)
    assert store.size_bytes("shards/00000.tar") == size_bytes
    assert store.get("shards/00000.tar") == data


def test_an_object_can_be_written_in_pieces(store: ObjectStore) -> None:
    """It is there whole or not at all: a source that fails in between changes nothing."""
    pieces = [bytes([number]) * (1 << 20) for number in range(12)]
    store.put_pieces("results.jsonl", iter(pieces))
    assert store.get("results.jsonl") == b"".join(pieces)

    def failing() -> Iterator[bytes]:
        yield from pieces
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        store.put_pieces("results.jsonl", failing())
    assert store.size_bytes("results.jsonl") == 12 << 20
    assert [path for path, _ in store.list("")] == ["results.jsonl"]


def test_a_listing_of_more_than_one_page_is_complete(s3_url: str) -> None:
    """Services answer with at most 1000 names at a time."""
    store = ObjectStore(f"{s3_url}/run")
    names = [f"images/{number:09d}.png" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b"x"), names))
    assert sorted(store.list("images")) == [(name, 1) for name in names]


def test_a_writable_store_passes_the_check_and_stays_empty(store: ObjectStore) -> None:
    """The probe is removed again."""
    store.check_writable()
    assert list(store.list("")) == []


def test_a_second_run_in_the_same_place_is_refused(store: ObjectStore) -> None:
    """The plan is written once, whatever the store knows of conditions."""
    folder = RunFolder(store.url)
    folder.write_plan(small_plan())
    assert RunFolder(store.url).read_plan() == small_plan()
    with pytest.raises(RunExistsError, match="holds one; choose another"):
        folder.write_plan(small_plan())
