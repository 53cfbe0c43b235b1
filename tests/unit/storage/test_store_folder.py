"""A folder as an object store: atomic, durable, and silent about what is not finished."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ddim_core.errors import OutputError, StorageError
from ddim_core.storage.objects import ObjectStore

NOBODY = 65534


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that this process may read and not write; root gives up its privileges for as long."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if was_root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_opening_and_reading_create_nothing(tmp_path: Path) -> None:
    """Asking for the status of a misspelt path must not leave a folder of that name."""
    store = ObjectStore(str(tmp_path / "missing"))
    assert not store.exists("run.json")
    assert list(store.list("parts")) == []
    store.delete("run.json")
    with pytest.raises(FileNotFoundError, match=r"missing/run\.json"):
        store.get("run.json")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    """Both a file instead of the folder and a file above it are reported when the store is opened."""
    (tmp_path / "file").write_text("x")
    for url in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match=r"must be a folder, but .*/file is a file"):
            ObjectStore(str(url))


def test_a_read_only_folder_is_refused_in_one_line(read_only_folder: Path) -> None:
    """The producer learns that nobody can write there before anything is queued."""
    with pytest.raises(OutputError, match=r"^the output must be writable: .*: Permission denied$"):
        ObjectStore(str(read_only_folder)).check_writable()


def test_a_place_where_no_folder_can_be_made_is_refused() -> None:
    """The system's reason is passed on, whatever it is."""
    with pytest.raises(OutputError, match="the output must be writable: could not write file:///proc/ddim-fleet"):
        ObjectStore("/proc/ddim-fleet").check_writable()


def test_the_probe_of_a_writable_folder_leaves_nothing(tmp_path: Path) -> None:
    """A check must not become a file of the dataset."""
    ObjectStore(str(tmp_path)).check_writable()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_shown_by_no_verb(tmp_path: Path) -> None:
    """A staged file is neither a part nor a shard."""
    store = ObjectStore(str(tmp_path))
    store.put("parts/00000.parquet", b"whole")
    (tmp_path / "parts" / "00001.parquet#81985529216486895").write_bytes(b"half")
    assert list(store.list("parts")) == [("parts/00000.parquet", 5)]
    assert not store.exists("parts/00001.parquet")


def test_a_failed_write_leaves_the_old_object_and_no_litter(tmp_path: Path) -> None:
    """Here the target is a folder, so that the last step of the write fails."""
    store = ObjectStore(str(tmp_path))
    store.put("a/b", b"old")
    with pytest.raises(StorageError, match=r"could not write .*/a: Is a directory"):
        store.put("a", b"new")
    assert store.get("a/b") == b"old"
    assert list(tmp_path.rglob("*#*")) == []


def test_of_many_writers_of_a_new_object_one_wins(tmp_path: Path) -> None:
    """Two producers that plan a run in the same folder must not both believe that it is theirs."""
    store = ObjectStore(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.put_new("run.json", b"%d" % number), range(64)))
    assert won.count(True) == 1
    assert store.get("run.json") == b"%d" % won.index(True)


def test_a_new_object_can_be_written_where_links_are_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network and FUSE file systems refuse hard links."""

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.ENOTSUP, "no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = ObjectStore(str(tmp_path))
    assert store.put_new("a", b"first")
    assert not store.put_new("a", b"second")
    assert store.get("a") == b"first"


def test_data_reach_the_disk_before_their_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a commit marker may be missing, but must not be empty or stand for a shard that is."""
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def record_sync(descriptor: int) -> None:
        steps.append("sync folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "sync data")
        sync(descriptor)

    def record_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(Path, "replace", record_replace)
    ObjectStore(str(tmp_path)).put("parts/00000.parquet", b"rows")
    assert steps == ["sync data", "rename", "sync folder"]


@pytest.mark.parametrize("path", ["../escape", "parts/../../escape", "/escape", "..", "a\0b"])
def test_no_verb_leaves_the_store(tmp_path: Path, path: str) -> None:
    """A row or a list that somebody changed may name any path; it is refused, whether or not there is such a file."""
    (tmp_path / "escape").write_text("secret")
    store = ObjectStore(str(tmp_path / "run"))
    for verb in (
        store.get,
        store.delete,
        store.exists,
        lambda path: store.put(path, b"x"),
        lambda path: list(store.list(path)),
    ):
        with pytest.raises(StorageError, match="an object's name must lead into its store, got "):
            verb(path)
    assert (tmp_path / "escape").read_text() == "secret"
    assert [path.name for path in tmp_path.iterdir()] == ["escape"]


def test_a_link_in_the_store_leads_no_write_out_of_it(tmp_path: Path) -> None:
    """Whoever may put a link into a run's folder shall not choose which files of the worker's user are replaced."""
    outside, root = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    root.mkdir()
    (outside / "00000.tar").write_text("theirs")
    (root / "shards").symlink_to(outside)
    (root / "stray").symlink_to(outside / "new")
    (root / "run.json").symlink_to(outside / "00000.tar")
    store = ObjectStore(str(root))
    for change in (
        lambda: store.put("shards/00000.tar", b"x"),
        lambda: store.put_new("shards/deep/1", b"x"),
        lambda: store.delete("shards/00000.tar"),
        lambda: store.put("stray/1", b"x"),
    ):
        with pytest.raises(StorageError, match=r"could not (write|delete) .*: a link leads out of the store"):
            change()
    store.put("run.json", b"ours")  # replaces the link, not what it leads to
    assert (outside / "00000.tar").read_text() == "theirs" and store.get("run.json") == b"ours"
    assert [path.name for path in outside.iterdir()] == ["00000.tar"]


def test_a_store_may_itself_be_a_link(tmp_path: Path) -> None:
    """People keep large folders on another disk; links within the store are no harm either."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    store = ObjectStore(str(tmp_path / "run"))
    store.put("a/b", b"x")
    (tmp_path / "disk" / "c").symlink_to(tmp_path / "disk" / "a")
    store.put("c/d", b"y")
    assert (store.get("a/b"), store.get("a/d")) == (b"x", b"y")
