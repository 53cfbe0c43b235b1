"""What a worker does while a store fails."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ddim_core.errors import OutputError, StorageError
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import PLAN
from workers import store_watch as stores
from workers.store_watch import StoreWatch

URL = "s3://b/run"
EXPIRED = StorageError("could not write s3://b/run/shards/00001.tar: 403 Forbidden: ExpiredToken")


class Store:
    """Refuses what it is given as often as a test says."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.calls = 0

    def put(self) -> str:
        """Refuse, or take it."""
        self.calls += 1
        if self.calls <= self.refusals:
            raise EXPIRED
        return "written"


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(stores, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(stores, "MAX_PAUSE_S", 0.02)


@pytest.fixture
def run_url(tmp_path: Path) -> str:
    """Give the URL of a folder that holds a run, as far as a watch looks."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / PLAN).write_text("{}")
    return f"file://{tmp_path}/run"


@pytest.mark.usefixtures("short_pauses")
def test_what_is_made_is_written_when_the_store_takes_it() -> None:
    """It is not made again for each refusal."""
    store, watch = Store(3), StoreWatch()
    assert watch.insist(URL, store.put) == "written"
    assert store.calls == 4 and watch.lines() == () and not watch.is_away(URL)


@pytest.mark.usefixtures("short_pauses")
def test_patience_ends() -> None:
    """It may be this host alone that cannot write."""
    watch = StoreWatch(patience_s=0.05)
    with pytest.raises(StorageError, match="ExpiredToken"):
        watch.insist(URL, Store(1000).put)
    assert watch.lines() == (str(EXPIRED),)


def test_a_process_that_ends_or_a_run_that_was_stopped_waits_no_longer() -> None:
    """A pause of seconds must not hold up a host that is drained."""
    began, store = time.monotonic(), Store(1000)
    with pytest.raises(StorageError):
        StoreWatch(lambda: True).insist(URL, store.put)
    with pytest.raises(StorageError):
        StoreWatch().insist(URL, store.put, lambda: True)
    ending = threading.Event()
    threading.Timer(0.2, ending.set).start()
    with pytest.raises(StorageError):
        StoreWatch(ending.is_set).insist(URL, store.put)
    assert store.calls == 3 and time.monotonic() - began < stores.FIRST_PAUSE_S * 0.7


def test_the_pause_grows_once_for_each_try_and_not_for_each_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a minute, and no further."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watch, pauses = StoreWatch(), []
    for _ in range(6):
        pauses.append(watch.failed(URL, EXPIRED))
        assert watch.failed(URL, EXPIRED) == pauses[-1]
        now += pauses[-1]
    assert all(0.8 * full <= pause <= full for pause, full in zip(pauses, [5, 10, 20, 40, 60, 60], strict=True))


def test_the_line_stays_while_the_reason_does() -> None:
    """Each object has another name; a person is told of the first one, and again when there is another reason."""
    watch = StoreWatch()
    watch.failed(URL, EXPIRED)
    watch.failed(URL, StorageError("could not write s3://b/run/parts/7.parquet: 403 Forbidden: ExpiredToken"))
    assert watch.lines() == (str(EXPIRED),)
    watch.failed(URL, OutputError("no S3 credentials;\nset them"))
    assert watch.lines() == (f"{URL}: no S3 credentials; set them",)


def test_a_store_that_works_again_wakes_those_who_wait_for_it() -> None:
    """They do not sit out their pauses."""
    watch, store = StoreWatch(), Store(1)
    with ThreadPoolExecutor(2) as pool:
        written = pool.submit(watch.insist, URL, store.put)
        while not watch.is_away(URL):
            time.sleep(0.01)
        held = pool.submit(watch.hold_off, URL, 60.0)
        watch.worked(URL)
        assert written.result(2.0) == "written" and held.result(2.0) is None


def test_a_store_nobody_waits_for_is_asked_when_its_time_has_come(
    run_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle worker would say for ever that its store is away."""
    now = time.monotonic()
    watch = StoreWatch()
    watch.failed(run_url, EXPIRED)
    watch.look()
    assert watch.is_away(run_url)
    monkeypatch.setattr(time, "monotonic", lambda: now + stores.FIRST_PAUSE_S + 1)
    watch.look()
    assert not watch.is_away(run_url)


def test_a_probe_that_is_refused_leaves_the_line(run_url: str) -> None:
    """The store is still away, for a reason that may be another one now."""
    folder = Path(run_url.removeprefix("file://"))
    watch = StoreWatch()
    watch.failed(run_url, EXPIRED)
    (folder / PLAN).unlink()
    (folder).rmdir()
    folder.symlink_to(folder)
    watch.ask(run_url)
    assert "symbolic links" in watch.lines()[0]


def test_a_run_that_was_deleted_is_not_brought_back_by_a_probe(tmp_path: Path) -> None:
    """Nothing waits for its store."""
    watch = StoreWatch()
    watch.failed(f"file://{tmp_path}/gone", EXPIRED)
    watch.ask(f"file://{tmp_path}/gone")
    assert watch.lines() == () and not (tmp_path / "gone").exists()


@pytest.mark.usefixtures("short_pauses")
def test_after_a_large_object_was_given_up_a_small_one_is_no_proof(run_url: str) -> None:
    """A disk that is nearly full takes small objects, and each chunk would be made in vain."""
    probes: list[int] = []

    class Disk(ObjectStore):
        def put(self, path: str, data: bytes) -> None:
            probes.append(len(data))

    watch = StoreWatch(patience_s=0.0)
    with pytest.raises(StorageError):
        watch.insist(run_url, Store(1).put, size_bytes=400_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "ObjectStore", Disk)
        watch.ask(run_url)
        watch.failed(run_url, EXPIRED)
        watch.ask(run_url)
    assert probes == [400_000, stores.SMALL_PROBE_BYTES]


def test_a_url_that_names_no_store_is_waited_for_by_nobody() -> None:
    """Anything may stand in a message."""
    watch, store = StoreWatch(), Store(1)
    with pytest.raises(StorageError):
        watch.insist("no-such-scheme://x", store.put)
    assert watch.lines() == () and store.calls == 1
