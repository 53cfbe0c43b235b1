"""Chunks and the reconciler against a real Redis, in this process, with samplers that do as the test says."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ddim_core.contracts.plan import ModelRef
from ddim_core.contracts.queue import (
    DEFAULT_QUEUE,
    RECONCILER_LOCK,
    RUNS_KEY,
    SAMPLE_CHUNK_TASK,
    ChunkMessage,
    RunKeys,
    WorkerReport,
    queue_of,
    worker_key,
)
from ddim_core.contracts.record import FAILED
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import SampledImage, SampleSpec, derived_seed
from ddim_core.errors import (
    CheckpointError,
    DeadlineExceededError,
    DeviceError,
    OutOfMemoryError,
    RunNotFoundError,
    StorageError,
    WorkerLostError,
)
from ddim_core.storage.run_folder import RunFolder, chunk_path, encode_chunk
from producer.broker import Broker
from producer.runs.progress import RunProgress
from tests.integration.worker_host import plan_run
from tests.unit.workers.samples import ScriptedSampler, loaded, picture
from tools.servers import RedisServer
from workers.chunks.on_device import OnDevice
from workers.chunks.worker import MAX_ATTEMPTS, ChunkWorker
from workers.coordination.connection import SILENCE_S, Board
from workers.coordination.in_hand import LOOKS_APART_S, MISSING_S, Whereabouts
from workers.coordination.leases import Leases, release_all
from workers.coordination.outbox import Outbox
from workers.coordination.queue_view import QueueView, named_chunk
from workers.coordination.run_notes import REFUSALS_EACH, REFUSED_FOR_S, Tally
from workers.coordination.suspects import BREAKS, LIMIT, Suspects
from workers.finishing.finisher import Finisher
from workers.logs import KeyValueFormatter
from workers.meter import Meter
from workers.process.tasks import make_app
from workers.reconciler import AWAIT_S, REQUEUES_PER_ROUND, UNSEEN_ROUNDS, Reconciler
from workers.runs import Runs
from workers.samplers.samplers import Load, Samplers
from workers.settings import Device, WorkerSettings


@dataclass
class Bench:
    """The parts of a worker process, without Celery's consumer and without threads of their own."""

    server: RedisServer
    worker_id: str = "host/cpu:0/1"
    sampler: ScriptedSampler = field(default_factory=ScriptedSampler)
    refusing: bool = False
    device_errors: int = 0

    def __post_init__(self) -> None:
        self.redis = self.server.client()
        self.board = Board(self.server.url)
        self.leases = Leases(self.board, self.worker_id)
        self.runs = Runs()
        self.app = make_app(WorkerSettings(device=Device(kind="sim", index=0), broker_url=self.server.url))
        self.outbox = Outbox(self.app, self.board, DEFAULT_QUEUE)
        self.reconciler = Reconciler(
            self.board, self.worker_id, self.runs, self.outbox, QueueView(self.board, DEFAULT_QUEUE)
        )
        self.encoders = ThreadPoolExecutor(2)
        self.chunks = ChunkWorker(
            worker_id=self.worker_id,
            device="cpu:0",
            board=self.board,
            leases=self.leases,
            runs=self.runs,
            samplers=Samplers(self.find),
            encoders=self.encoders,
            finisher=Finisher(self.board, self.leases, self.runs),
            meter=Meter(),
            requeue=lambda message, priority, front: self.outbox.chunks([message], priority, front=front),
            on_device_error=self.count_device_error,
            hold_off_s=0,
        )

    def find(self, model: ModelRef) -> Load:
        """Find any checkpoint, or none."""
        if self.refusing:
            raise CheckpointError(f"checkpoint {model.name} must be here")
        return lambda: loaded(self.sampler)

    def count_device_error(self) -> None:
        """Stand in for the end of the process."""
        self.device_errors += 1

    def round(self) -> None:
        """Reconcile as if the pauses that spare the store and a long queue had passed."""
        self.reconciler._queue_view._next_scan_at = 0
        for watch in self.reconciler._watches.values():
            watch.next_listing_at = 0
        for run_id in self.redis.hkeys(RUNS_KEY):
            self.redis.expire(RunKeys(run_id).missing, int(MISSING_S - LOOKS_APART_S) - 1)
        self.reconciler.round()

    def heir(self) -> Reconciler:
        """Return the reconciler of another process, which knows nothing yet and can have the lock at once."""
        release_all(self.board, self.worker_id)
        return Reconciler(self.board, "host/cpu:0/2", Runs(), self.outbox, QueueView(self.board, DEFAULT_QUEUE))

    def pop(self) -> int:
        """Take the next message as a worker does that dies with it."""
        named = named_chunk(self.redis.rpop(DEFAULT_QUEUE))
        assert named is not None
        return named[1]

    def queued(self) -> list[int]:
        """Return the chunks that wait, the next one first."""
        items = self.redis.lrange(DEFAULT_QUEUE, 0, -1)
        return [named[1] for item in reversed(items) if (named := named_chunk(item)) is not None]

    def close(self) -> None:
        """Drop connections and threads."""
        self.encoders.shutdown()
        self.app.close()
        self.board.close()
        self.redis.close()


@pytest.fixture
def bench(redis_server: RedisServer) -> Iterator[Bench]:
    """Give the parts of one worker process."""
    made = Bench(redis_server)
    yield made
    made.close()


@pytest.fixture
def folder(bench: Bench, tmp_path: Path) -> RunFolder:
    """Give a registered run of four chunks with two images each, none of them queued."""
    requests = [Request(prompt=f"a star {n}", num_images_per_prompt=2, num_inference_steps=1) for n in range(4)]
    made = plan_run(str(tmp_path / "run"), requests, images_per_chunk=2)
    bench.redis.hset(RUNS_KEY, made.read_plan().run_id, made.url)
    return made


def message(folder: RunFolder, chunk: int) -> ChunkMessage:
    """Return the message of a chunk."""
    return ChunkMessage(run_url=folder.url, run_id=folder.read_plan().run_id, chunk=chunk)


def keys(folder: RunFolder) -> RunKeys:
    """Return the run's keys."""
    return RunKeys(folder.read_plan().run_id)


def test_a_chunk_without_a_lease_is_queued_before_all_others_at_once(bench: Bench, folder: RunFolder) -> None:
    """Its worker is dead; one round is enough, and a second adds nothing."""
    bench.outbox.chunks([message(folder, chunk) for chunk in range(3)])
    bench.redis.sadd(keys(folder).in_hand, 3)
    bench.round()
    assert bench.queued() == [3, 0, 1, 2]
    bench.round()
    assert bench.queued() == [3, 0, 1, 2]


def test_a_chunk_that_waits_before_all_others_is_not_queued_twice(bench: Bench, folder: RunFolder) -> None:
    """However long all workers are busy, and whatever else is sent ahead meanwhile."""
    bench.outbox.chunks([message(folder, 1), message(folder, 2)])
    bench.redis.sadd(keys(folder).in_hand, 3)
    bench.round()
    bench.redis.sadd(keys(folder).in_hand, 0)
    for _ in range(5):
        bench.redis.delete(keys(folder).requeued(3), keys(folder).requeued(0))  # as if ``AWAIT_S`` had passed
        bench.round()
    assert bench.queued() == [0, 3, 1, 2]


def test_a_chunk_taken_over_is_missed_when_its_message_is_lost_again(bench: Bench, folder: RunFolder) -> None:
    """The worker that takes it may die before it has the lease; one round finds that, in whatever process."""
    bench.outbox.chunks([message(folder, 0), message(folder, 1), message(folder, 2)])
    bench.redis.sadd(keys(folder).in_hand, 3)
    bench.round()
    assert bench.pop() == 3
    heir = bench.heir()
    heir.round()
    assert bench.queued() == [0, 1, 2]
    assert 0 < bench.redis.pttl(keys(folder).requeued(3)) <= 1000 * AWAIT_S
    bench.redis.delete(keys(folder).requeued(3))
    heir.round()
    assert bench.queued() == [3, 0, 1, 2]


def test_a_worker_that_dies_with_a_lease_and_no_more_leaves_its_chunk_to_others(
    bench: Bench, folder: RunFolder
) -> None:
    """Between its lease and its first note there is time to die in."""
    bench.outbox.chunks([message(folder, 0), message(folder, 1), message(folder, 2)])
    dying = Leases(bench.board, "host/cpu:0/9")
    assert dying.take(keys(folder).lease(3), noted_in=keys(folder).in_hand)
    release_all(bench.board, "host/cpu:0/9")
    bench.round()
    assert bench.queued() == [3, 0, 1, 2]


def test_a_lease_that_redis_forgot_is_noted_again_with_its_chunk(bench: Bench, folder: RunFolder) -> None:
    """Its worker may die after Redis was wiped; a lease that Redis knows adds nothing to what was put down since."""
    bench.leases.take(keys(folder).lease(3), noted_in=keys(folder).in_hand)
    bench.redis.delete(keys(folder).in_hand)
    bench.leases.renew()
    assert not bench.redis.exists(keys(folder).in_hand)
    bench.redis.flushall()
    bench.leases.renew()
    assert bench.redis.smembers(keys(folder).in_hand) == {"3"}


@pytest.mark.parametrize("case", ["committed", "cancelled", "no such chunk", "no such run"])
def test_a_chunk_that_needs_no_work_is_not_noted_as_in_hand(bench: Bench, folder: RunFolder, case: str) -> None:
    """Else its message would be queued again and again."""
    chunk, run_keys = message(folder, 9 if case == "no such chunk" else 3), keys(folder)
    if case == "committed":
        bench.chunks.sample(chunk)
    elif case == "cancelled":
        folder.cancel()
    elif case == "no such run":
        shutil.rmtree(Path(folder.url.removeprefix("file://")))
    bench.chunks.sample(chunk)
    assert not bench.redis.exists(run_keys.in_hand, run_keys.lease(chunk.chunk))


@pytest.mark.parametrize(
    "run_url",
    [
        "file:///etc",
        "../..",
        "/proc/self",
        "~nobody-of-that-name/run",
        "gopher://host/run",
        "http://user:secret@127.0.0.1:1/run",
        "s3://key:secret@bucket/run",
        "s3://bucket/../other",
        "file://host/share",
        "file:///%00",
        "nul\0",
        "\ud800",
        " ",
        "x" * 2048,
    ],
)
def test_a_message_that_names_a_hostile_place_costs_one_line_in_the_log(
    bench: Bench, folder: RunFolder, caplog: pytest.LogCaptureFixture, run_url: str
) -> None:
    """No exception, which would be a traceback, no secret, nothing written, and the run of that id is left alone."""
    before = sorted(Path(folder.url.removeprefix("file://")).parent.rglob("*"))
    for hostile in (run_url, f"{folder.url}/../elsewhere"):
        caplog.clear()
        bench.chunks.sample(message(folder, 3).model_copy(update={"run_url": hostile}))
        (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert vars(record)["action"] in ("run_not_found", "chunk_given_back")
        assert "secret" not in KeyValueFormatter("sim:0").format(record)
    assert sorted(Path(folder.url.removeprefix("file://")).parent.rglob("*")) == before
    assert bench.redis.hgetall(RUNS_KEY) == {keys(folder).run_id: folder.url}


@pytest.mark.parametrize("fields", [{"run_id": "run-of-another"}, {"chunk": 10**30}])
def test_a_message_for_another_run_or_no_chunk_is_dropped(
    bench: Bench, folder: RunFolder, caplog: pytest.LogCaptureFixture, fields: dict[str, object]
) -> None:
    """The folder's own run is not touched, and the line says what it was."""
    bench.chunks.sample(message(folder, 3).model_copy(update=fields))
    (record,) = caplog.records
    assert vars(record)["action"] in ("run_not_found", "no_such_chunk")
    assert folder.committed_chunks() == set() and bench.redis.hkeys(RUNS_KEY) == [keys(folder).run_id]


@pytest.mark.parametrize(
    ("was", "is_now"),
    [
        ('"image_count":2', '"image_count":1000000000'),
        ('"custom_id":"r1"', '"custom_id":"\\ud800"'),
        ('"prompt":"a star 1"', '"prompt":"a star","scheduler":{"num_train_timesteps":1000000000000}'),
        ('"prompt":"a star 1"', '"prompt":"a star","invert":{"image":"../../../etc/passwd"}'),
        ('"index":1', '"index":1,"metadata":' + "[" * 100_000),
    ],
    ids=["too many images", "no text", "too many steps", "a picture elsewhere", "nested"],
)
def test_a_chunk_file_that_was_changed_is_damaged_and_no_more(
    bench: Bench, folder: RunFolder, caplog: pytest.LogCaptureFixture, was: str, is_now: str
) -> None:
    """Neither memory nor files of others are reached by it."""
    text = encode_chunk(folder.read_chunk(1)).decode()
    assert text.count(was) == 1
    folder.store.put(chunk_path(1), text.replace(was, is_now).encode())
    bench.chunks.sample(message(folder, 1))
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert vars(record)["action"] == "chunk_unreadable"
    assert folder.committed_chunks() == set()


def test_odd_names_in_a_chunk_file_stay_names(bench: Bench, tmp_path: Path) -> None:
    """Loose files, ids that look like paths, and metadata with keys that look like code: all is below ``images``."""
    odd = {"../../escape": "a", "": "b", "__class__": "{0.__globals__}", "a,b\n": '"', "file_name": "../../escape"}
    requests = [
        Request(prompt="a star", num_inference_steps=1, custom_id=custom_id, metadata=odd)
        for custom_id in ("../../escape", "/etc/escape", "a/b", "..", "escape\0")
    ]
    folder = plan_run(str(tmp_path / "odd"), requests, container="files")
    bench.redis.hset(RUNS_KEY, folder.read_plan().run_id, folder.url)
    bench.chunks.sample(message(folder, 0))
    assert folder.read_manifest() is not None
    files = [path.relative_to(tmp_path / "odd") for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parts[0] for path in files if path.suffix == ".png"} == {"images"}
    assert len([path for path in files if path.suffix == ".png"]) == len(requests)
    assert not list(tmp_path.glob("escape*"))


def test_a_plan_that_names_more_chunks_than_memory_holds_is_only_a_run_without_an_end(
    bench: Bench, folder: RunFolder
) -> None:
    """Neither a look at it nor the order to finish it counts them one by one."""
    text = folder.store.get("run.json").decode().replace('"chunk_count": 4', '"chunk_count": 1000000000000000')
    folder.store.put("run.json", text.encode())
    bench.chunks.sample(message(folder, 0))
    bench.round()
    bench.round()
    assert not bench.chunks.finisher.finish(bench.runs.open(folder.url, keys(folder).run_id))
    assert len(bench.queued()) == REQUEUES_PER_ROUND


def test_of_two_reconcilers_at_once_one_queues_a_chunk(bench: Bench, folder: RunFolder) -> None:
    """As when the lock of one expires in a long round: neither waits for the other."""
    whereabouts = [Whereabouts(bench.board, keys(folder).run_id) for _ in range(2)]
    bench.redis.set(keys(folder).lease(2), "a worker", px=20_000)
    assert [each.reserve([1, 2, 3], AWAIT_S) for each in whereabouts] == [[1, 3], []]


def test_a_message_sent_ahead_is_found_among_those_that_others_send(bench: Bench, folder: RunFolder) -> None:
    """A producer may queue its chunks in the same moment; none of them is moved, and none lost."""
    for chunk in (0, 1, 2):
        bench.outbox.chunks([message(folder, chunk)])
    task_id = bench.outbox._send(SAMPLE_CHUNK_TASK, message(folder, 3), DEFAULT_QUEUE)
    bench.outbox.chunks([message(folder, 1)])
    bench.outbox._move_ahead(DEFAULT_QUEUE, task_id)
    bench.outbox._move_ahead(DEFAULT_QUEUE, "taken already")
    assert bench.queued() == [3, 0, 1, 2, 1]


def test_a_chunk_with_a_lease_is_left_alone(bench: Bench, folder: RunFolder) -> None:
    """Also when nothing else is queued: three chunks are lost, the fourth is in hand."""
    bench.redis.sadd(keys(folder).in_hand, 3)
    bench.redis.set(keys(folder).lease(3), "another worker", px=20_000)
    bench.round()
    bench.round()
    assert bench.queued() == [0, 1, 2]


def test_lost_messages_are_queued_again_after_two_looks(bench: Bench, folder: RunFolder) -> None:
    """One look could fall between a message's leaving the queue and its lease."""
    bench.round()
    assert bench.queued() == []
    bench.round()
    assert bench.queued() == [0, 1, 2, 3]
    for _ in range(3):
        bench.round()
    assert bench.queued() == [0, 1, 2, 3]


def test_two_looks_by_two_processes_miss_a_message_as_well(bench: Bench, folder: RunFolder) -> None:
    """Under continuous kills none lives for two; but a second look a moment after the first says nothing new."""
    bench.round()
    heir = bench.heir()
    heir.round()
    assert bench.queued() == []
    bench.chunks.sample(message(folder, 3))  # which renews the expiry of other notes
    assert bench.redis.ttl(keys(folder).missing) <= MISSING_S
    bench.redis.expire(keys(folder).missing, int(MISSING_S - LOOKS_APART_S) - 1)
    heir._watches.clear()
    heir.round()
    assert bench.queued() == [0, 1, 2]


def test_a_lost_queue_is_queued_again_in_its_order(
    bench: Bench, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few lost chunks go before all others; thousands of them must not push each other back."""
    monkeypatch.setattr("workers.reconciler.AHEAD_LIMIT", 1)
    monkeypatch.setattr("workers.reconciler.REQUEUES_PER_ROUND", 2)
    for _ in range(3):
        bench.round()
    assert bench.queued() == [0, 1, 2, 3]
    assert not bench.redis.exists(keys(folder).in_hand)


def test_a_chunk_is_missed_beside_a_queue_that_never_empties(bench: Bench, folder: RunFolder) -> None:
    """A fleet may always have work; a lost message must not wait for the day when it has none."""
    bench.outbox.chunks([message(folder, 0), message(folder, 1), message(folder, 2)])
    bench.round()
    bench.round()
    assert bench.queued() == [3, 0, 1, 2]


@pytest.mark.parametrize("item", [b"\xff\xfe", b"[" * 100_000], ids=["no text", "nested"])
def test_an_item_that_cannot_be_read_does_not_stop_the_reconciler(bench: Bench, folder: RunFolder, item: bytes) -> None:
    """Anyone who reaches Redis can put one into the queue, and it may wait there for long."""
    bench.redis.lpush(DEFAULT_QUEUE, item)
    bench.redis.sadd(keys(folder).in_hand, 3)
    bench.round()
    assert bench.redis.llen(DEFAULT_QUEUE) == 2  # the item, and the chunk that nobody was at


def test_a_chunk_given_back_waits_for_its_pause(bench: Bench, folder: RunFolder) -> None:
    """A store that failed a moment ago is not asked again at once."""
    bench.redis.sadd(keys(folder).in_hand, 3)
    bench.redis.set(keys(folder).requeued(3), "pause", px=300)
    bench.round()
    assert 3 not in bench.queued()
    time.sleep(0.35)
    bench.round()
    assert 3 in bench.queued()


def test_a_run_whose_chunks_are_all_committed_is_finished(bench: Bench, folder: RunFolder) -> None:
    """When the worker that committed the last one did not notice, as after a loss of Redis."""
    for chunk in range(4):
        bench.chunks.sample(message(folder, chunk))
        bench.redis.delete(keys(folder).committed)
    assert folder.read_manifest() is None
    bench.round()
    (item,) = bench.redis.lrange(queue_of(DEFAULT_QUEUE, "high"), 0, -1)
    assert "finish_run" in item
    assert bench.chunks.finisher.finish(bench.runs.open(folder.url, keys(folder).run_id))
    bench.round()
    assert not bench.redis.exists(RUNS_KEY, *keys(folder).lasting())


def test_a_manifest_written_twice_has_the_same_bytes(bench: Bench, folder: RunFolder) -> None:
    """Two workers may finish a run at once."""
    for chunk in range(4):
        bench.chunks.sample(message(folder, chunk))
    first = folder.store.get("manifest.json")
    folder.store.delete("manifest.json")
    assert bench.chunks.finisher.finish(bench.runs.open(folder.url, keys(folder).run_id))
    assert folder.store.get("manifest.json") == first


def test_a_run_that_redis_forgot_is_registered_again_by_who_has_seen_it(bench: Bench, folder: RunFolder) -> None:
    """And a run that is over is not."""
    bench.chunks.sample(message(folder, 0))
    bench.redis.flushall()
    bench.round()
    assert bench.redis.hgetall(RUNS_KEY) == {keys(folder).run_id: folder.url}
    folder.cancel()
    bench.redis.flushall()
    bench.round()
    assert bench.redis.hgetall(RUNS_KEY) == {}


def test_a_cancelled_run_is_neither_made_nor_queued_again(bench: Bench, folder: RunFolder) -> None:
    """What is committed stays."""
    bench.chunks.sample(message(folder, 0))
    folder.cancel()
    bench.chunks.sample(message(folder, 1))
    assert folder.committed_chunks() == {0}
    bench.round()
    bench.round()
    assert bench.queued() == [] and not bench.redis.exists(RUNS_KEY)


def test_a_run_that_cannot_be_seen_from_here_leaves_the_lock_to_others(bench: Bench, folder: RunFolder) -> None:
    """A folder that only some hosts mount is looked after by one of those."""
    bench.redis.hset(RUNS_KEY, "run-elsewhere", "file:///no/such/folder")
    bench.round()
    assert bench.redis.get(RECONCILER_LOCK) is None


def test_a_run_that_was_deleted_is_forgotten_after_a_while(bench: Bench, folder: RunFolder) -> None:
    """Also by a process that has its plan in memory; until then it is looked for once in a while."""
    bench.chunks.sample(message(folder, 0))
    chunk = message(folder, 1)
    shutil.rmtree(Path(folder.url.removeprefix("file://")))
    bench.chunks.sample(chunk)
    for _ in range(2 * UNSEEN_ROUNDS):
        bench.round()
    assert not bench.redis.exists(RUNS_KEY) and bench.queued() == []


def test_a_chunk_of_a_run_that_was_made_anew_is_dropped(bench: Bench, folder: RunFolder) -> None:
    """Whether the folder changed before the chunk was taken, or while its images were made."""
    bench.chunks.sample(message(folder, 0))
    before_taking, while_making = message(folder, 1), message(folder, 2)
    bench.sampler.answer = _then(lambda: _made_anew(folder))
    bench.chunks.sample(while_making)
    bench.chunks.sample(before_taking)
    assert folder.committed_chunks() == set() and folder.read_manifest() is None


def test_the_manifest_of_a_run_that_was_made_anew_is_not_written(bench: Bench, folder: RunFolder) -> None:
    """It would name the old run beside the new one's images."""
    old = bench.runs.open(folder.url, keys(folder).run_id)
    _made_anew(folder)
    for chunk in range(3):
        bench.chunks.sample(message(folder, chunk))
    with pytest.raises(RunNotFoundError, match="it was made anew"):
        bench.chunks.finisher.finish(old)
    bench.chunks.sample(message(folder, 3))
    manifest = folder.read_manifest()
    assert manifest is not None and manifest.run_id == "run-made-anew"


def test_the_reconciler_leaves_a_run_that_was_made_anew(bench: Bench, folder: RunFolder) -> None:
    """It must neither queue the old run's chunks nor take the new one's for its own."""
    bench.round()
    _made_anew(folder)
    for _ in range(UNSEEN_ROUNDS * 2):
        bench.round()
    assert bench.queued() == [] and not bench.redis.exists(RUNS_KEY)


def test_a_message_that_comes_after_the_end_leaves_no_notes(bench: Bench, folder: RunFolder) -> None:
    """Redelivered chunks of finished runs must not fill Redis."""
    for chunk in (0, 1, 2, 3, 2):
        bench.chunks.sample(message(folder, chunk))
    assert folder.read_manifest() is not None
    assert not bench.redis.exists(RUNS_KEY, *keys(folder).lasting())


def test_one_process_at_a_time_reconciles(bench: Bench, folder: RunFolder) -> None:
    """Until its lock expires or is released in the name of the dead."""
    bench.redis.set(RECONCILER_LOCK, "another worker", px=20_000)
    bench.redis.sadd(keys(folder).in_hand, 3)
    bench.round()
    assert bench.queued() == []
    release_all(bench.board, "another worker")
    bench.round()
    assert bench.queued() == [3]


def test_a_lease_is_one_workers_until_it_is_released_or_expires(bench: Bench) -> None:
    """And renewing takes it again when Redis has forgotten it."""
    other = Leases(bench.board, "other", lease_s=0.2)
    assert other.take("ddim-fleet:lease:run:1")
    assert not other.take("ddim-fleet:lease:run:1")
    assert not bench.leases.take("ddim-fleet:lease:run:1")
    bench.redis.flushall()
    other.renew()
    assert not bench.leases.take("ddim-fleet:lease:run:1")
    time.sleep(0.25)
    assert bench.leases.take("ddim-fleet:lease:run:1")
    other.renew()
    other.release("ddim-fleet:lease:run:1")
    assert bench.redis.get("ddim-fleet:lease:run:1") == bench.worker_id


def test_a_broken_device_costs_attempts_and_at_last_a_failed_row(bench: Bench, folder: RunFolder) -> None:
    """With its chunk, in a group, and alone the chunk is left to others; the second time alone the image fails."""
    bench.sampler.answer = _breaks_with("a star 2", image=1)
    for attempt in range(1, 1 + BREAKS):
        bench.chunks.sample(message(folder, 2))
        assert folder.committed_chunks() == set() and bench.device_errors == attempt
        assert bench.redis.pttl(keys(folder).requeued(2)) > 0
    bench.chunks.sample(message(folder, 2))
    rows = folder.read_records(2)
    assert [row.error_code for row in rows] == [None, "device_failed"]
    assert rows[1].attempts == 1 + BREAKS


def test_many_images_that_break_devices_take_none_along(bench: Bench, tmp_path: Path) -> None:
    """Each costs attempts, and none of these counts against the chunk as a whole."""
    requests = [Request(prompt=f"a star {n}", num_inference_steps=1) for n in range(8)]
    folder = plan_run(str(tmp_path / "many"), requests, images_per_chunk=8)
    bench.sampler.answer = _breaks_with(*(f"a star {n}" for n in range(5)))
    while not folder.committed_chunks():
        bench.chunks.sample(message(folder, 0))
        assert bench.device_errors < 20
    assert [row.error_code for row in folder.read_records(0)] == ["device_failed"] * 5 + [None] * 3
    assert bench.device_errors > MAX_ATTEMPTS


def test_an_image_without_room_fails_alone_and_at_once(bench: Bench, folder: RunFolder) -> None:
    """The sampler has tried it in a batch of its own; its neighbours are made, and no process is lost."""
    bench.sampler.answer = _out_of_memory(1)
    bench.chunks.sample(message(folder, 2))
    assert [row.error_code for row in folder.read_records(2)] == [None, "out_of_memory"]
    assert bench.device_errors == 0


def test_a_device_without_room_for_anything_is_no_images_fault(bench: Bench, folder: RunFolder) -> None:
    """Something else may use its memory, or other devices have more: the chunk is left to others at first."""
    bench.sampler.answer = _out_of_memory(0, 1)
    for attempt in range(1, MAX_ATTEMPTS):
        bench.chunks.sample(message(folder, 2))
        assert folder.committed_chunks() == set() and bench.device_errors == attempt
    bench.chunks.sample(message(folder, 2))
    assert [row.error_code for row in folder.read_records(2)] == ["out_of_memory"] * 2


def test_deaths_do_not_count_against_a_chunk_that_fails_later(bench: Bench, folder: RunFolder) -> None:
    """A chunk with many killers has many attempts behind it; one failure of another kind must not end it."""
    bench.redis.hset(keys(folder).attempts, "0", str(3 * MAX_ATTEMPTS))
    encoders, bench.chunks.encoders = bench.chunks.encoders, ThreadPoolExecutor(1)
    bench.chunks.encoders.shutdown()
    bench.chunks.sample(message(folder, 0))
    assert folder.committed_chunks() == set()
    bench.chunks.encoders = encoders
    bench.chunks.sample(message(folder, 0))
    assert [row.error_code for row in folder.read_records(0)] == [None, None]


def test_a_chunk_that_fails_as_a_whole_ends_as_failed_rows(bench: Bench, folder: RunFolder) -> None:
    """For instance a fault of this program: the run ends, and says what it was."""
    bench.chunks.encoders = ThreadPoolExecutor(1)
    bench.chunks.encoders.shutdown()
    for _ in range(MAX_ATTEMPTS):
        bench.chunks.sample(message(folder, 0))
    assert {row.status for row in folder.read_records(0)} == {FAILED}
    assert {row.error_class for row in folder.read_records(0)} == {"RuntimeError"}


@pytest.mark.parametrize("damage", [None, b"{", b""])
def test_a_damaged_chunk_stops_its_run_when_nothing_else_is_left(
    bench: Bench, folder: RunFolder, damage: bytes | None
) -> None:
    """A missing, damaged or cut file: its rows cannot be known, all others are made, and the run can be resumed."""
    whole = folder.store.get(chunk_path(1))
    folder.store.delete(chunk_path(1))
    if damage is not None:
        folder.store.put(chunk_path(1), damage)
    for _ in range(MAX_ATTEMPTS):
        bench.chunks.sample(message(folder, 1))
    assert not folder.is_cancelled()
    for chunk in (0, 2, 3):
        bench.chunks.sample(message(folder, chunk))
    bench.chunks.sample(message(folder, 1))
    assert folder.is_cancelled() and folder.committed_chunks() == {0, 2, 3}
    folder.store.put(chunk_path(1), whole)
    folder.uncancel()
    bench.chunks.sample(message(folder, 1))
    assert folder.read_manifest() is not None


def test_a_store_that_cannot_be_read_damages_nothing(bench: Bench, folder: RunFolder) -> None:
    """However often that happens, the chunk is made when the store is back."""
    file = Path(folder.url.removeprefix("file://")) / chunk_path(0)
    whole = file.read_bytes()
    file.unlink()
    file.mkdir()
    for _ in range(2 * MAX_ATTEMPTS):
        bench.chunks.sample(message(folder, 0))
    assert bench.redis.hget(keys(folder).attempts, "0") == "0"
    file.rmdir()
    file.write_bytes(whole)
    bench.chunks.sample(message(folder, 0))
    assert folder.committed_chunks() == {0}


def test_a_worker_without_the_checkpoint_leaves_chunks_to_one_that_has_it(bench: Bench, folder: RunFolder) -> None:
    """It queues the message again, as often as it gets it, while another worker lives that has not refused."""
    _report(bench, bench.worker_id)
    _report(bench, "host/cpu:1/2")
    bench.refusing = True
    for _ in range(2 * REFUSALS_EACH):
        bench.chunks.sample(message(folder, 0))
    assert folder.committed_chunks() == set()
    assert bench.queued() == [0] * 2 * REFUSALS_EACH
    assert bench.redis.scard(keys(folder).in_hand) == 0 and not bench.redis.exists(keys(folder).lease(0))


def test_a_refusal_is_told_at_once_and_until_a_worker_has_loaded_the_checkpoint(
    bench: Bench, folder: RunFolder
) -> None:
    """Whoever asks for the run's status learns why, after the first try; a note that Redis loses is made again."""
    _report(bench, bench.worker_id)
    progress = RunProgress(folder, Broker(bench.server.url))
    assert progress.read().trouble == ""
    why = "cannot make it: checkpoint simulated must be here; it waits for one that can"
    bench.refusing = True
    for _ in range(2):
        bench.chunks.sample(message(folder, 0))
        assert why in progress.read().trouble
        bench.redis.flushall()
        _report(bench, bench.worker_id)
        assert progress.read().trouble == ""
    bench.chunks.sample(message(folder, 0))
    bench.refusing = False
    bench.chunks.sample(message(folder, 0))
    assert not bench.redis.exists(keys(folder).refused)
    assert progress.read().trouble == ""
    bench.redis.hset(keys(folder).refused, bench.worker_id, "another worker, a moment later")
    assert progress.read().trouble == "", "the worker that could is alive"


def test_a_chunk_that_is_done_is_not_named_as_in_hand(bench: Bench, folder: RunFolder) -> None:
    """A worker's report is up to five seconds old, and it writes the manifest with its last chunk's lease in hand."""
    run_id = folder.read_plan().run_id
    report = WorkerReport(
        worker_id=bench.worker_id,
        host="host",
        pid=1,
        device="cpu:0",
        state="ready",
        chunks=tuple(f"{run_id}/{chunk}" for chunk in range(4)),
    )
    bench.redis.set(worker_key(bench.worker_id), report.model_dump_json())
    for chunk, holder in ((0, bench.worker_id), (1, bench.worker_id), (2, "host/cpu:1/2")):
        bench.redis.set(keys(folder).lease(chunk), holder)
    bench.redis.sadd(keys(folder).committed, 1)
    broker = Broker(bench.server.url)
    assert [one.chunks for one in broker.at_work()] == [(f"{run_id}/0",)]
    assert broker.workers() == [report]


def test_a_checkpoint_that_no_living_worker_has_ends_as_failed_rows(bench: Bench, folder: RunFolder) -> None:
    """After a while, in which one that has it might have come; the reason stands in each row."""
    _report(bench, bench.worker_id)
    bench.refusing = True
    for _ in range(2 * REFUSALS_EACH):
        bench.chunks.sample(message(folder, 0))
    assert folder.committed_chunks() == set()
    _refused_long_ago(bench, folder)
    bench.chunks.sample(message(folder, 0))
    rows = folder.read_records(0)
    assert {row.error_message for row in rows} == {"checkpoint simulated must be here"}


def test_a_run_that_a_worker_could_make_once_is_never_refused_for_good(bench: Bench, folder: RunFolder) -> None:
    """The only worker with the checkpoint may be restarting, for however long; its run waits for it."""
    _report(bench, bench.worker_id)
    bench.chunks.sample(message(folder, 0))
    bench.refusing = True
    bench.chunks.sample(message(folder, 1))
    _refused_long_ago(bench, folder)
    for _ in range(2 * REFUSALS_EACH):
        bench.chunks.sample(message(folder, 1))
    assert folder.committed_chunks() == {0} and set(bench.queued()) == {1}


def test_images_that_killed_workers_alone_are_failed_rows_and_stay_known(bench: Bench, folder: RunFolder) -> None:
    """A chunk may hold two of them; the first must not kill again while the second is being found."""
    run_keys = keys(folder)
    bench.redis.hset(run_keys.attempts, "1", "4")
    bench.redis.hset(run_keys.suspects, mapping={"000010000": LIMIT, "000010001": LIMIT - 1})
    bench.chunks.sample(message(folder, 1))
    rows = folder.read_records(1)
    assert [(row.error_code, row.error_class) for row in rows] == [("worker_lost", "WorkerLostError"), (None, None)]
    assert bench.redis.hgetall(run_keys.suspects) == {"000010000": str(LIMIT), "000010001": "0"}
    assert bench.redis.ttl(run_keys.attempts) > 0


def test_notes_on_images_are_what_redis_holds(bench: Bench, folder: RunFolder) -> None:
    """A note is there before its image is on the device, and says what the device said last."""
    suspects, run_keys = Suspects(bench.board, keys(folder)), keys(folder)
    assert suspects.suspect(["a", "b"]) == [1, 1]
    suspects.acquit(["b"])
    assert suspects.suspect(["a"]) == [2]
    assert suspects.accuse("a", DeviceError("it broke"))
    known = suspects.of(["a", "b", "c"])
    assert [suspicion.count for suspicion in known] == [2, 0, None] and not known[0].is_proven
    assert isinstance(known[0].reason, DeviceError) and str(known[0].error()) == "it broke"
    assert suspects.suspect(["a"]) == [3]
    assert isinstance(suspects.of(["a"])[0].error(), WorkerLostError)  # it died this time, or could not say
    suspects.excuse(["a", "b"])
    assert bench.redis.hgetall(run_keys.suspects) == {"a": "2", "b": "-1"}
    assert suspects.of(["b"])[0].count == 0
    assert suspects.accuse("b", DeadlineExceededError("it stood still"), proven=True)
    assert suspects.of(["b"])[0].is_proven and isinstance(suspects.of(["b"])[0].error(), DeadlineExceededError)
    assert {run_keys.suspects, run_keys.reasons, run_keys.failures} <= set(run_keys.lasting())


def test_without_redis_a_chunk_in_hand_is_committed(bench: Bench, folder: RunFolder) -> None:
    """No lease, no counters, and all the images."""
    bench.server.stop()
    bench.chunks.sample(message(folder, 0))
    assert len(folder.read_records(0)) == 2
    bench.server.start()


def test_a_server_that_became_a_replica_is_left_for_whoever_has_its_name_now(bench: Bench, folder: RunFolder) -> None:
    """It answers, so nothing else would ever end the connections to it; what it refused counts as unanswered."""
    old = bench.board.ask(lambda redis: redis.client_id(), otherwise=0)
    bench.redis.replicaof("127.0.0.1", "1")
    assert bench.leases.take(keys(folder).lease(0))  # as without Redis
    bench.redis.replicaof("NO", "ONE")
    assert bench.board.redis.client_id() != old
    time.sleep(SILENCE_S)
    bench.leases.renew()
    assert bench.redis.get(keys(folder).lease(0)) == bench.worker_id


def _breaks_with(*prompts: str, image: int = 0) -> Callable[[SampleSpec], SampledImage]:
    def answer(spec: SampleSpec) -> SampledImage:
        if spec.prompt in prompts and spec.seed in seeds:
            raise DeviceError("the device is lost")
        return picture(spec)

    seeds = {derived_seed(0, f"r{number}", image) for number in range(8)}
    return answer


def _out_of_memory(*images: int) -> Callable[[SampleSpec], SampledImage]:
    def answer(spec: SampleSpec) -> SampledImage:
        if spec.seed in seeds:
            raise OutOfMemoryError("the device must have memory for one image of 32x32, and it has not")
        return picture(spec)

    seeds = {derived_seed(0, "r2", image) for image in images}
    return answer


def _then(act: Callable[[], None]) -> Callable[[SampleSpec], SampledImage]:
    """Return an answer that does something before it gives the picture."""

    def answer(spec: SampleSpec) -> SampledImage:
        act()
        return picture(spec)

    return answer


def _made_anew(folder: RunFolder) -> None:
    """Put another run of four chunks in the folder's place."""
    shutil.rmtree(Path(folder.url.removeprefix("file://")))
    requests = [Request(prompt=f"a moon {n}", num_images_per_prompt=2, num_inference_steps=1) for n in range(4)]
    plan_run(folder.url, requests, images_per_chunk=2, run_id="run-made-anew")


def _refused_long_ago(bench: Bench, folder: RunFolder) -> None:
    """Date the first refusal of the run back."""
    bench.redis.decrby(keys(folder).refused_since, int(REFUSED_FOR_S))


def _report(bench: Bench, worker_id: str) -> None:
    report = WorkerReport(worker_id=worker_id, host="host", pid=1, device="cpu:0", state="ready")
    bench.redis.set(worker_key(worker_id), report.model_dump_json())


def test_a_worker_that_ends_passes_its_chunk_on(bench: Bench, folder: RunFolder) -> None:
    """Before all other messages, with its lease and its attempt taken back, and nothing is written of it."""
    bench.outbox.chunks([message(folder, 1)])
    bench.chunks.give_back_all()
    bench.chunks.sample(message(folder, 0))
    run_keys = keys(folder)
    assert folder.committed_chunks() == set()
    assert bench.redis.hget(run_keys.attempts, "0") == "0"
    assert not bench.redis.exists(run_keys.in_hand, run_keys.lease(0))
    assert [bench.pop(), bench.pop()] == [0, 1]


def test_nothing_is_begun_while_the_store_is_away(bench: Bench, folder: RunFolder) -> None:
    """The chunk is left to the reconciler; it is made once the store is back."""
    bench.chunks.stores.failed(folder.url, StorageError("could not write: 503 Slow Down"))
    bench.chunks.sample(message(folder, 0))
    assert bench.redis.exists(keys(folder).requeued(0)) and not bench.redis.exists(keys(folder).attempts)
    bench.chunks.stores.worked(folder.url)
    bench.chunks.sample(message(folder, 0))
    assert folder.committed_chunks() == {0}


def test_notes_taken_back_after_a_run_was_dropped_do_not_stay_for_ever(bench: Bench, folder: RunFolder) -> None:
    """A chunk may be in hand when its cancelled run is forgotten; nobody would delete its notes again."""
    tally, run_keys = Tally(bench.board, folder.read_plan().run_id), keys(folder)
    tally.excuse(0)
    tally.fail(0)
    suspects = Suspects(bench.board, run_keys)
    suspects.suspect(["a", "b"])
    suspects.excuse(["a"])
    suspects.acquit(["b"])
    suspects.accuse("a", DeviceError("it broke"), proven=True)
    notes = (run_keys.attempts, run_keys.failures, run_keys.suspects, run_keys.reasons)
    assert all(bench.redis.ttl(key) > 0 for key in notes)


def test_a_count_that_redis_lost_in_between_never_falls_below_one(bench: Bench, folder: RunFolder) -> None:
    """Rows count attempts from one, and pauses are times of it."""
    tally = Tally(bench.board, folder.read_plan().run_id)
    tally.excuse(0)
    assert tally.begin(0) == 1
    tally.give_back(0, 0.0)  # which Redis would refuse as it stands


def test_images_that_came_back_are_not_held_up_to_the_kill_of_a_worker_that_writes(
    bench: Bench, folder: RunFolder
) -> None:
    """Their device has survived them; the store may be away for minutes after that."""
    suspects, on_device = Suspects(bench.board, keys(folder)), OnDevice()
    suspects.suspect(["a", "b"])
    suspects.acquit(["b"])
    suspects.suspect(["b"])
    with on_device.on_trial(suspects, ["a", "b"], unknown=["a"]) as trying:
        for _ in range(2):
            on_device.add()
        on_device.remove()
        assert [one.count for one in suspects.of(["a", "b"])] == [1, 1]
        on_device.remove()
        trying.join()
        assert [one.count for one in suspects.of(["a", "b"])] == [None, 0]
        trying.excuse()  # when the attempt ends for want of a store
    assert [one.count for one in suspects.of(["a", "b"])] == [None, 0]


def test_images_stay_suspected_when_the_device_failed_with_one(bench: Bench, folder: RunFolder) -> None:
    """Which of them it was is not known yet."""
    suspects, on_device = Suspects(bench.board, keys(folder)), OnDevice()
    suspects.suspect(["a", "b"])
    with on_device.on_trial(suspects, ["a", "b"], unknown=["a", "b"]):
        for failed in (True, False):
            on_device.add()
            on_device.remove(device_failed=failed)
    assert [one.count for one in suspects.of(["a", "b"])] == [1, 1]
