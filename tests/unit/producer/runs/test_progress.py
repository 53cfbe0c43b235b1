"""Progress is read from the store, and from Redis where it still remembers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ddim_core.contracts.changes import Extension, RetryList, RetryOrder
from ddim_core.contracts.queue import Refusals, WorkerReport
from ddim_core.errors import BrokerError, RunNotFoundError
from ddim_core.storage.changes import add_change, write_retry_list
from ddim_core.storage.run_folder import RunFolder
from producer.runs.progress import RunProgress
from tests.unit.producer.written_runs import RUN_ID, commit, finish, written_run


class FakeBoard:
    """Says what a test wrote on it."""

    def __init__(self) -> None:
        self.counts: dict[int, tuple[int, int]] = {}
        self.reports: list[WorkerReport] = []
        self.refused = Refusals()
        self.is_down = False

    def progress(self, run_id: str) -> dict[int, tuple[int, int]]:
        """Return the counts."""
        assert run_id == RUN_ID
        self._answer()
        return self.counts

    def workers(self) -> list[WorkerReport]:
        """Return the reports."""
        self._answer()
        return self.reports

    def refusals(self, run_id: str) -> Refusals:
        """Return who refused."""
        assert run_id == RUN_ID
        self._answer()
        return self.refused

    def _answer(self) -> None:
        if self.is_down:
            raise BrokerError("down")


class Clock:
    """Time that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def board() -> FakeBoard:
    """Give an empty board."""
    return FakeBoard()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """Give a run of ten images in chunks of four, four and two."""
    return written_run(tmp_path / "run")


def report(*chunks: str, images_per_s: float = 0.0, state: str = "ready") -> WorkerReport:
    return WorkerReport.model_validate(
        {
            "worker_id": "w",
            "host": "h",
            "pid": 1,
            "device": "sim:0",
            "state": state,
            "chunks": chunks,
            "images_per_s": images_per_s,
        }
    )


def test_a_new_run_is_queued(folder: RunFolder, board: FakeBoard) -> None:
    """Nothing is done and nobody holds a chunk of it."""
    board.reports = [report("another-run/0")]
    status = RunProgress(folder, board).read()
    assert (status.state, status.images_made, status.chunks_done, status.workers) == ("queued", 0, 0, 1)


def test_a_run_in_a_workers_hands_is_running(folder: RunFolder, board: FakeBoard) -> None:
    """Before its first image, too; a worker that compiles is counted apart."""
    board.reports = [report(f"{RUN_ID}/0", state="compiling"), report(state="starting"), report()]
    status = RunProgress(folder, board).read()
    assert (status.state, status.workers, status.workers_starting) == ("running", 3, 2)


def test_done_chunks_come_from_the_store_and_others_from_redis(folder: RunFolder, board: FakeBoard) -> None:
    """What Redis says of a chunk that it saw only in part does not count once the chunk is committed."""
    commit(folder, 0, made=3, failed=1)
    board.counts = {0: (1, 0), 1: (2, 1)}
    status = RunProgress(folder, board).read()
    assert (status.images_made, status.images_failed, status.chunks_done, status.state) == (5, 2, 1, "running")


def test_what_redis_counted_whole_is_not_read_from_the_store(folder: RunFolder, board: FakeBoard) -> None:
    """A run of thousands of chunks would take as many reads."""
    commit(folder, 2, made=0)
    board.counts = {2: (2, 0)}
    assert RunProgress(folder, board).read().images_made == 2


def test_without_redis_the_store_is_enough(folder: RunFolder, board: FakeBoard) -> None:
    """Nobody knows then who is working."""
    commit(folder, 0, made=4)
    board.is_down = True
    for progress in (RunProgress(folder, board), RunProgress(folder, None)):
        status = progress.read()
        assert (status.state, status.images_made, status.workers, status.images_per_s) == ("running", 4, None, None)


def test_a_manifest_means_finished(folder: RunFolder, board: FakeBoard) -> None:
    """Its totals count, whatever Redis says."""
    finish(folder, made=9, failed=1, seconds=3.0)
    board.counts = {0: (1, 0)}
    status = RunProgress(folder, board).read()
    assert status.is_over
    assert (status.state, status.images_made, status.images_failed, status.chunks_done) == ("finished", 9, 1, 3)
    assert (status.images_per_s, status.eta_s) == (3.0, None)


def test_a_cancelled_run_is_over(folder: RunFolder, board: FakeBoard) -> None:
    """Waiting for it would never end."""
    commit(folder, 0, made=4)
    folder.cancel()
    status = RunProgress(folder, board).read()
    assert (status.state, status.is_over, status.images_made) == ("cancelled", True, 4)


def test_a_paused_run_is_not_over(folder: RunFolder, board: FakeBoard) -> None:
    """Whoever watches it waits; what was in hand is dropped and does not count."""
    commit(folder, 0, made=4)
    board.counts = {1: (3, 0)}
    folder.pause()
    status = RunProgress(folder, board).read()
    assert (status.state, status.is_over, status.images_made, status.eta_s) == ("paused", False, 4, None)
    folder.cancel()
    assert RunProgress(folder, board).read().state == "cancelled"


def test_a_run_that_is_extended_while_it_is_watched_has_more_to_do(folder: RunFolder, board: FakeBoard) -> None:
    """Also where it was finished a moment ago."""
    progress = RunProgress(folder, board)
    finish(folder, made=10)
    assert progress.read().is_over
    more = Extension(
        created_at="2026-01-01T00:00:00+00:00",
        first_chunk=3,
        request_count=5,
        image_count=5,
        chunk_count=2,
        requests_digest="sha256:0",
    )
    assert add_change(folder.store, folder.read_plan(), more) is not None
    status = progress.read()
    assert (status.is_over, status.images_total, status.chunks_total) == (False, 15, 5)


def test_good_images_count_while_failed_ones_are_made_again(folder: RunFolder, board: FakeBoard) -> None:
    """The chunk is not done, and yet most of it is there."""
    for chunk, (made, failed) in enumerate([(3, 1), (4, 0), (2, 0)]):
        commit(folder, chunk, made=made, failed=failed)
    clock = Clock()
    progress = RunProgress(folder, board, clock)
    assert (progress.read().images_made, progress.read().images_failed) == (9, 1)
    order = RetryOrder(created_at="2026-01-01T00:00:00+00:00", name="0123456789abcdef", images=1, chunks=1)
    write_retry_list(folder.store, order, RetryList(parts={0: hashlib.sha256(b"").hexdigest()}))
    add_change(folder.store, folder.read_plan(), order)
    status = progress.read()
    assert (status.images_made, status.images_failed, status.chunks_done) == (9, 0, 2)
    board.counts = {0: (4, 0)}
    assert progress.read().images_made == 10


def test_the_speed_is_that_of_the_last_readings(folder: RunFolder, board: FakeBoard) -> None:
    """Until they span a few seconds, workers at this run are asked; the time of compiling does not count."""
    clock = Clock()
    progress = RunProgress(folder, board, clock)
    board.reports = [report(f"{RUN_ID}/0", images_per_s=7.0), report("another-run/0", images_per_s=100.0)]
    readings = [(0.0, 0, 7.0), (100.0, 0, 7.0), (101.0, 2, 7.0), (106.0, 4, 4 / 6), (140.0, 8, 4 / 34)]
    for clock.now, made, expected in readings:
        board.counts = {0: (made, 0)}
        status = progress.read()
        assert status.images_per_s == pytest.approx(expected)
        assert status.eta_s == pytest.approx((10 - made) / expected)


def test_a_listing_that_takes_long_is_not_repeated_at_once(
    folder: RunFolder, board: FakeBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that lists a large run would do nothing else; a cancelled run is read as it is."""
    clock = Clock()
    progress = RunProgress(folder, board, clock)
    listed: list[float] = []

    def list_slowly() -> set[int]:
        listed.append(clock.now)
        clock.now += 3.0
        return set()

    monkeypatch.setattr(folder, "committed_chunks", list_slowly)
    for clock.now in (0.0, 4.0, 62.0, 63.0, 64.0):
        progress.read()
    assert listed == [0.0, 63.0]
    folder.cancel()
    progress.read()
    assert len(listed) == 3


def test_a_quick_listing_is_repeated_every_second(folder: RunFolder, board: FakeBoard) -> None:
    """A person in front of a small run sees it move."""
    clock = Clock()
    progress = RunProgress(folder, board, clock)
    assert progress.read().chunks_done == 0
    commit(folder, 0, made=4)
    clock.now = 0.9
    assert progress.read().chunks_done == 0
    clock.now = 1.0
    assert progress.read().chunks_done == 1


def test_no_run_is_told(tmp_path: Path) -> None:
    """When it is opened, and not at the first reading."""
    with pytest.raises(RunNotFoundError, match=r"^a run's URL must name a folder with run\.json"):
        RunProgress(RunFolder(str(tmp_path)), None)


def test_what_workers_wait_for_is_said_where_it_is_this_runs_store(folder: RunFolder, board: FakeBoard) -> None:
    """One line, however many they are; another run's trouble is none of this one."""
    lost = f"could not write {folder.url}/shards/00001.tar: No space left on device"
    board.reports = [
        report().model_copy(update={"device": f"sim:{n}", "troubles": lines})
        for n, lines in enumerate([(), (f"could not write {folder.url}-2/x: 503",), (lost,), (lost,), (lost,)])
    ]
    progress = RunProgress(folder, board)
    assert progress.read().trouble == f"worker sim:2 on h and 2 more: {lost}; waiting"
    board.reports = board.reports[:3]
    assert progress.read().trouble == f"worker sim:2 on h: {lost}; waiting"
    board.reports = board.reports[:2]
    assert progress.read().trouble == ""


def test_a_refused_checkpoint_is_said_at_once_with_the_workers_reason(folder: RunFolder, board: FakeBoard) -> None:
    """Until one of the living has loaded it; what the dead said, or those of another run, is no news."""
    board.reports = [report().model_copy(update={"worker_id": f"w{n}", "device": f"sim:{n}"}) for n in range(4)]
    why = {"w1": "checkpoint x must be below --models", "w2": "none", "dead": "gone"}
    board.refused = Refusals(why)
    progress = RunProgress(folder, board)
    told = "worker sim:1 on h and 1 more cannot make it: checkpoint x must be below --models; it waits for one that can"
    assert progress.read().trouble == told
    board.refused = Refusals(why, able="dead")
    assert progress.read().trouble == told
    board.refused = Refusals(why, able="w3")
    assert progress.read().trouble == ""
    board.refused = Refusals({"dead": "gone"})
    assert progress.read().trouble == ""
    board.refused = Refusals(why)
    board.is_down = True
    assert progress.read().trouble == ""


def test_the_time_left_counts_from_when_workers_have_compiled(folder: RunFolder, board: FakeBoard) -> None:
    """Half of them compiling, any figure would be twice too long a minute later; and the speed before is forgotten."""
    clock = Clock()
    progress = RunProgress(folder, board, clock)

    def at(now: float, made: int, *states: str) -> tuple[float | None, float | None]:
        clock.now, board.counts = now, {0: (made, 0)}
        board.reports = [
            report(f"{RUN_ID}/{n}", state=state, images_per_s=0.5 * (state == "ready")).model_copy(
                update={"worker_id": f"w{n}"}
            )
            for n, state in enumerate(states)
        ]
        status = progress.read()
        return status.images_per_s, status.eta_s

    assert at(0.0, 0, "compiling", "compiling") == (None, None)
    assert at(30.0, 0, "compiling", "ready") == (0.5, None)
    assert at(40.0, 1, "compiling", "ready") == (0.1, None)
    assert at(41.0, 1, "ready", "ready") == (1.0, 9.0)
    assert at(46.0, 6, "ready", "ready") == (1.0, 4.0)
    assert at(47.0, 7, "ready", "ready", "ready", "compiling") == (1.5, 2.0)


def test_workers_that_compile_for_another_run_do_not_hide_the_time_left(folder: RunFolder, board: FakeBoard) -> None:
    """A fleet always compiles somewhere."""
    board.counts = {0: (2, 0)}
    board.reports = [report(f"{RUN_ID}/0", images_per_s=4.0), *[report("other/0", state="compiling")] * 3]
    assert RunProgress(folder, board).read().eta_s == 2.0
