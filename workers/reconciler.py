"""The reconciler: compares what should be done with what is, and queues again what got lost.

Redis under Celery loses messages now and then, and all of them when it is wiped; workers die with chunks in hand. The
plan in the store says what there is to do, the parts say what is done, leases and the queue what is being seen to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from redis import Redis

from ddim_core.contracts.queue import RECONCILER_LOCK, RUNS_KEY, ChunkMessage, FinishMessage, RunKeys
from ddim_core.errors import InputError, RunNotFoundError, StorageError
from workers.board import Board
from workers.lease import claim
from workers.outbox import Outbox
from workers.queue_view import Queued, QueueView
from workers.runs import OpenRun, Runs
from workers.tally import Tally

log = logging.getLogger(__name__)

ROUND_INTERVAL_S = 5.0
LOCK_S = 15.0
REQUEUE_S = 30.0
"""How long a chunk that was queued again is left alone."""
REQUEUES_PER_ROUND = 2000
"""Keeps a round short when a long queue was lost; the next one goes on."""
UNSEEN_ROUNDS = 30
"""After so many rounds without a run at its URL, some minutes, it is taken off the list; most likely it was deleted."""
LISTING_COST_FACTOR = 20
"""A store is not listed again before so many times what it took: 100,000 parts take a bucket ten seconds or more."""


@dataclass(slots=True)
class Watch:
    """What the reconciler remembers of one run between rounds."""

    committed: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)
    """Chunks that nobody had at the last look."""
    next_listing_at: float = 0.0
    finish_sent_at: float = float("-inf")
    unseen_rounds: int = 0
    """Rounds in a row in which there was no run at its URL."""


class Reconciler:
    """One round after the other, in the worker process that holds the lock."""

    def __init__(self, board: Board, worker_id: str, runs: Runs, outbox: Outbox, queue_view: QueueView) -> None:
        """Send through ``outbox`` what is missing in ``queue_view``."""
        self._board = board
        self._worker_id = worker_id
        self._runs = runs
        self._outbox = outbox
        self._queue_view = queue_view
        self._watches: dict[str, Watch] = {}
        self._rest = False

    def round(self) -> None:
        """Look after every run that is not finished, if this process is the one to do so."""
        self._register_again()
        if self._rest:
            self._rest = False
        elif claim(self._board, RECONCILER_LOCK, self._worker_id, LOCK_S):
            self._look_after_all()

    def _look_after_all(self) -> None:
        listed = self._listed() or {}
        queued = self._queue_view.queued()
        self._watches = {run_id: self._watches.get(run_id, Watch()) for run_id in listed}
        for run_id, url in listed.items():
            self._look_after(run_id, url, queued)

    def _listed(self) -> dict[str, str] | None:
        return self._board.ask(
            lambda redis: {str(run_id): str(url) for run_id, url in redis.hgetall(RUNS_KEY).items()}, otherwise=None
        )

    def _register_again(self) -> None:
        """List runs that this process has worked on and that Redis forgot, unless they are over."""
        listed = self._listed()
        if listed is None:
            return
        for url, run_id in self._runs.seen():
            if run_id not in listed:
                try:
                    self._register_if_unfinished(self._runs.open(url, run_id))
                except (InputError, StorageError) as exc:
                    self._forget_if_gone(url, run_id, exc)
                    log.warning("a run cannot be read", extra={"action": "run_unseen", "error": str(exc)})

    def _register_if_unfinished(self, run: OpenRun) -> None:
        run_id = run.plan.run_id
        run = run.again()
        if _is_over(run):
            self._runs.forget(run.folder.url, run_id)
        else:
            Tally(self._board, run_id).register(run.folder.url)
            log.warning("Redis had forgotten a run", extra={"action": "run_registered_again", "run": run_id})

    def _forget_if_gone(self, url: str, run_id: str, exc: Exception) -> None:
        """Drop the plan in memory if the run was deleted; a store that is away for a while is no reason to."""
        if isinstance(exc, RunNotFoundError):
            self._runs.forget(url, run_id)

    def _look_after(self, run_id: str, url: str, queued: Queued | None) -> None:
        watch = self._watches[run_id]
        try:
            self._reconcile(self._runs.open(url, run_id), watch, queued)
        except (InputError, StorageError) as exc:
            # Another host may see the store that this one does not: let it have the lock for a round.
            self._board.ask(lambda redis: redis.delete(RECONCILER_LOCK), otherwise=0)
            self._rest = True
            self._forget_if_gone(url, run_id, exc)
            watch.unseen_rounds += isinstance(exc, RunNotFoundError)
            if watch.unseen_rounds in (1, UNSEEN_ROUNDS):
                log.warning("a run cannot be seen from here", extra={"action": "run_unseen", "error": str(exc)})
            if watch.unseen_rounds >= UNSEEN_ROUNDS:  # whoever does see it lists it again
                self._board.ask(lambda redis: redis.hdel(RUNS_KEY, run_id), otherwise=0)

    def _reconcile(self, run: OpenRun, watch: Watch, queued: Queued | None) -> None:
        leased, orphans = self._in_hand(run)
        requeued = self._take_over(run, orphans)
        if queued is None or requeued:
            return
        noted = self._members(_keys(run).committed)
        seen_to = leased | {chunk for run_id, chunk in queued if run_id == run.plan.run_id}
        done = watch.committed | noted
        if len(done) >= run.plan.chunk_count or len(done | seen_to) < run.plan.chunk_count:
            self._compare_with_store(run, watch, seen_to)
        else:
            watch.missing = set()

    def _compare_with_store(self, run: OpenRun, watch: Watch, seen_to: set[int]) -> None:
        if time.monotonic() < watch.next_listing_at:
            return None
        run = self._runs.fresh(run.folder.url, run.plan.run_id)
        if _is_over(run):
            return self._let_go(run)
        if run.folder.is_paused():  # its chunks are not lost; whoever goes on with it takes the mark away
            return None
        _list(run, watch)
        if len(watch.committed) >= run.plan.chunk_count:
            return self._finish(run, watch)
        missing = set(range(run.plan.chunk_count)) - watch.committed - seen_to
        self._queue_again(run, missing & watch.missing)
        watch.missing = missing
        return None

    def _in_hand(self, run: OpenRun) -> tuple[set[int], set[int]]:
        """Return the chunks in hand: those with a living worker, and those without one that may be queued again."""
        keys = _keys(run)
        chunks = sorted(self._members(keys.in_hand))

        def look(redis: Redis) -> list[int]:
            with redis.pipeline(transaction=False) as pipe:
                for chunk in chunks:
                    pipe.exists(keys.lease(chunk))
                    pipe.exists(keys.requeued(chunk))
                return list(pipe.execute())

        found = self._board.ask(look, otherwise=[1] * (2 * len(chunks)))
        leased = {chunk for chunk, exists in zip(chunks, found[0::2], strict=True) if exists}
        paused = {chunk for chunk, exists in zip(chunks, found[1::2], strict=True) if exists}
        return leased | paused, set(chunks) - leased - paused

    def _members(self, key: str) -> set[int]:
        return self._board.ask(lambda redis: {int(chunk) for chunk in redis.smembers(key)}, otherwise=set[int]())

    def _take_over(self, run: OpenRun, orphans: Iterable[int]) -> bool:
        """Queue chunks whose worker died, before all others."""
        dead = [chunk for chunk in sorted(orphans) if not self._settled(run, chunk)]
        for chunk in dead:
            self._send(run, chunk, front=True)
            Tally(self._board, run.plan.run_id).put_down(chunk)
            log.warning(
                "a chunk in hand has no worker; it is queued again",
                extra={"action": "chunk_taken_over", **_facts(run, chunk)},
            )
        return bool(dead)

    def _settled(self, run: OpenRun, chunk: int) -> bool:
        if run.commits.has(chunk):
            Tally(self._board, run.plan.run_id).settle(chunk)
            return True
        return False

    def _queue_again(self, run: OpenRun, missing: set[int]) -> None:
        keys = _keys(run)
        lost = sorted(missing)[:REQUEUES_PER_ROUND]

        def free(redis: Redis) -> list[int]:
            with redis.pipeline(transaction=False) as pipe:
                for chunk in lost:
                    pipe.exists(keys.lease(chunk), keys.requeued(chunk))
                return list(pipe.execute())

        taken = self._board.ask(free, otherwise=[1] * len(lost))
        again = [chunk for chunk, is_taken in zip(lost, taken, strict=True) if not is_taken]
        for chunk in again:
            Tally(self._board, run.plan.run_id).give_back(chunk, REQUEUE_S)
            self._send(run, chunk)
        if again:
            extra = {"action": "chunks_queued_again", **_facts(run, again[0]), "count": len(again)}
            log.warning("lost chunks are queued again, from this one on", extra=extra)

    def _send(self, run: OpenRun, chunk: int, *, front: bool = False) -> None:
        message = ChunkMessage(run_url=run.folder.url, run_id=run.plan.run_id, chunk=chunk)
        self._outbox.chunks([message], run.plan.priority, front=front)

    def _let_go(self, run: OpenRun) -> None:
        Tally(self._board, run.plan.run_id).forget()
        self._runs.forget(run.folder.url, run.plan.run_id)

    def _finish(self, run: OpenRun, watch: Watch) -> None:
        if time.monotonic() - watch.finish_sent_at < REQUEUE_S:
            return
        watch.finish_sent_at = time.monotonic()
        self._outbox.finish(FinishMessage(run_url=run.folder.url, run_id=run.plan.run_id))


def _is_over(run: OpenRun) -> bool:
    return run.folder.is_cancelled() or run.folder.read_totals(run.plan) is not None


def _list(run: OpenRun, watch: Watch) -> None:
    """Read from the store which chunks are committed, and set the earliest time to do so again by what it cost."""
    began = time.monotonic()
    watch.committed = run.commits.chunks()
    cost_s = time.monotonic() - began
    watch.next_listing_at = began + LISTING_COST_FACTOR * cost_s


def _keys(run: OpenRun) -> RunKeys:
    return RunKeys(run.plan.run_id)


def _facts(run: OpenRun, chunk: int) -> dict[str, object]:
    return {"run": run.plan.run_id, "chunk": chunk}
