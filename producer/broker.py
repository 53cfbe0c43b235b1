"""Redis as the producer uses it: messages out, progress and workers in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, nullcontext
from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import ValidationError
from redis.backoff import NoBackoff
from redis.retry import Retry

from ddim_core.broker_url import check_broker_url, shown_broker
from ddim_core.contracts.plan import RunPlan
from ddim_core.contracts.queue import (
    DEFAULT_BROKER_URL,
    DEFAULT_QUEUE,
    FINISH_RUN_TASK,
    PROBE_KEY,
    RUNS_KEY,
    SAMPLE_CHUNK_TASK,
    WORKERS_PATTERN,
    ChunkMessage,
    FinishMessage,
    Refusals,
    RunKeys,
    WorkerReport,
    celery_options,
    queue_of,
)
from ddim_core.errors import BrokerError
from producer.redis_state import Advice, advice, explained, unfitness

_CONNECT_TIMEOUT_S = 3
_ANSWER_TIMEOUT_S = 5
_PROBE_S = 5
"""Of a probe whose removal is lost."""
_MESSAGES_AT_ONCE = 500
"""About half a megabyte."""
_CHUNKS_AT_ONCE = 10_000
"""Redis answers nobody else while it works on a command."""


class Broker:
    """The Redis between producer and workers, and the queue on it."""

    def __init__(self, url: str | None = None, queue: str | None = None) -> None:
        """Name the broker; nothing is sent yet.

        Raises:
            InputError: The URL is none that Redis has.
        """
        self._url = url or DEFAULT_BROKER_URL
        self._queue = queue or DEFAULT_QUEUE
        self.shown_url = shown_broker(self._url)
        check_broker_url(self._url)
        self._redis: redis.Redis = redis.Redis.from_url(
            self._url,
            decode_responses=True,
            socket_connect_timeout=_CONNECT_TIMEOUT_S,
            socket_timeout=_ANSWER_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # a person waits; whoever polls asks again anyway
        )

    def ping(self) -> None:
        """Make sure that Redis answers, is of a kind that workers can use, and takes what is written.

        Raises:
            BrokerError: It does not; says why, and what mends it.
        """
        info = self._info()
        if (unfit := unfitness(info)) is not None:
            raise BrokerError(f"Redis at {self.shown_url} {unfit}")
        with self._errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.set(PROBE_KEY, "written", ex=_PROBE_S)
            pipe.delete(PROBE_KEY)
            pipe.execute()

    def advice(self) -> list[Advice]:
        """Return what to mend of a Redis that can be used as it is.

        Raises:
            BrokerError: It does not answer.
        """
        return list(advice(self._info()))

    def register(self, plan: RunPlan, run_url: str, done: Iterable[int], held: Set[int]) -> None:
        """Tell the workers that the run is to be finished, of which the chunks ``done`` are; forget earlier tries.

        What is made of the chunks ``held``, which workers are at, is kept: they count on.
        """
        keys = RunKeys(plan.run_id)
        chunks = sorted(done)
        stale = self.progress(plan.run_id).keys() - held
        with self._errors(), self._redis.pipeline() as pipe:
            pipe.delete(*(key for key in keys.lasting() if key != keys.progress))
            if stale:
                pipe.hdel(keys.progress, *map(str, stale))
            for first in range(0, len(chunks), _CHUNKS_AT_ONCE):
                pipe.sadd(keys.committed, *chunks[first : first + _CHUNKS_AT_ONCE])
            pipe.hset(RUNS_KEY, plan.run_id, run_url)
            pipe.execute()

    def queue_chunks(self, plan: RunPlan, run_url: str, chunks: Iterable[int]) -> None:
        """Send one message a chunk, to the queue of the run's priority.

        Raises:
            BrokerError: Redis failed; some messages may have been sent.
        """
        messages = (ChunkMessage(run_url=run_url, run_id=plan.run_id, chunk=chunk) for chunk in chunks)
        self._send(SAMPLE_CHUNK_TASK, messages, queue_of(self._queue, plan.priority))

    def queue_finish(self, plan: RunPlan, run_url: str) -> None:
        """Ask for the manifest of a run whose chunks are all committed."""
        message = FinishMessage(run_url=run_url, run_id=plan.run_id)
        self._send(FINISH_RUN_TASK, [message], queue_of(self._queue, "high"))

    def leased_chunks(self, plan: RunPlan, chunks: list[int]) -> set[int]:
        """Return those of ``chunks`` that a worker holds now."""
        keys = RunKeys(plan.run_id)
        held = set()
        with self._errors():
            for first in range(0, len(chunks), _CHUNKS_AT_ONCE):
                some = chunks[first : first + _CHUNKS_AT_ONCE]
                leases = self._redis.mget([keys.lease(chunk) for chunk in some])
                held |= {chunk for chunk, lease in zip(some, leases, strict=True) if lease is not None}
        return held

    def progress(self, run_id: str) -> dict[int, tuple[int, int]]:
        """Return images made and failed by chunk, as far as Redis remembers."""
        with self._errors():
            counts = self._redis.hgetall(RunKeys(run_id).progress)
        return {int(chunk): _made_and_failed(str(value)) for chunk, value in counts.items()}

    def refusals(self, run_id: str) -> Refusals:
        """Return which workers could not load a run's checkpoint, as far as Redis remembers."""
        keys = RunKeys(run_id)
        with self._errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.refused)
            pipe.get(keys.able)
            reasons, able = pipe.execute()
        return Refusals({str(worker): str(why) for worker, why in reasons.items()}, able)

    def workers(self) -> list[WorkerReport]:
        """Return the latest report of every worker that is alive."""
        return list(_readable(self.values(WORKERS_PATTERN)))

    def at_work(self) -> list[WorkerReport]:
        """Return the same, naming of the chunks in hand those alone that are still: a report is seconds old."""
        reports = self.workers()
        named = [(report, chunk) for report in reports for chunk in report.chunks]
        with self._errors(), self._redis.pipeline(transaction=False) as pipe:
            for _, chunk in named:
                run_id, _, number = chunk.rpartition("/")
                pipe.get(RunKeys(run_id).lease(int(number) if number.isdecimal() else -1))
                pipe.sismember(RunKeys(run_id).committed, number)
            said = pipe.execute()
        held = {
            (report.worker_id, chunk)
            for (report, chunk), holder, is_done in zip(named, said[0::2], said[1::2], strict=True)
            if holder == report.worker_id and not is_done
        }
        return [_holding(report, held) for report in reports]

    def values(self, pattern: str) -> list[str]:
        """Return the strings under all keys that match, but for those that went meanwhile."""
        with self._errors():
            names = list(self._redis.scan_iter(pattern, count=1000))
            values = self._redis.mget(names) if names else []
        return [str(value) for value in values if value is not None]

    def fields(self, key: str) -> dict[str, str]:
        """Return a hash."""
        with self._errors():
            return {str(name): str(value) for name, value in self._redis.hgetall(key).items()}

    def set_field(self, key: str, name: str, value: str) -> None:
        """Set a field of a hash."""
        with self._errors():
            self._redis.hset(key, name, value)

    def drop_field(self, key: str, name: str) -> bool:
        """Remove a field of a hash; return whether there was one."""
        with self._errors():
            return bool(self._redis.hdel(key, name))

    def _send(self, task: str, messages: Iterable[ChunkMessage] | Iterable[FinishMessage], queue: str) -> None:
        app = Celery("ddim-fleet-producer", set_as_current=False)
        app.conf.update(celery_options(self._url, self._queue))
        with (
            self._errors(),
            app.producer_pool.acquire(block=True) as producer,
            self._redis.pipeline(transaction=False) as pipe,
        ):
            # Where kombu reaches for a client to push one message with, and wait, it gets a pipeline that takes many.
            producer.channel.conn_or_acquire = lambda client=None: nullcontext(pipe)
            for number, message in enumerate(messages, start=1):
                app.send_task(task, kwargs=message.model_dump(), queue=queue, producer=producer, retry=False)
                if number % _MESSAGES_AT_ONCE == 0:
                    pipe.execute()
            pipe.execute()

    def _info(self) -> dict[str, Any]:
        """Return what Redis says of itself; nothing where its user may not ask, which needs no other permission."""
        with self._errors():
            self._redis.ping()
            try:
                found: dict[str, Any] = self._redis.info()
            except redis.exceptions.NoPermissionError:
                return {}
        return found

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OperationalError, OSError) as exc:
            raise BrokerError(f"Redis at {self.shown_url} {explained(exc, self._url)}") from exc


def _made_and_failed(value: str) -> tuple[int, int]:
    made, _, failed = value.partition(",")
    return int(made), int(failed or 0)


def _holding(report: WorkerReport, held: Set[tuple[str, str]]) -> WorkerReport:
    still = tuple(chunk for chunk in report.chunks if (report.worker_id, chunk) in held)
    return report.model_copy(update={"chunks": still})


def _readable(reports: Iterable[str]) -> Iterator[WorkerReport]:
    """Yield the reports that are there and in a form we know; another version's worker may write another form."""
    for report in reports:
        try:
            yield WorkerReport.model_validate_json(report)
        except ValidationError:
            continue
