"""The reconciler: compares what should be done with what is, and queues again what got lost.

Redis under Celery loses messages now and then, and all of them when it is wiped; workers die with chunks in hand. The
plan in the store says what there is to do, the parts say what is done, leases and the queue what is being seen to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from ddim_core.contracts.queue import RECONCILER_LOCK, RUNS_KEY, ChunkMessage, FinishMessage, RunKeys
from ddim_core.errors import InputError, RunNotFoundError, StorageError
from workers.coordination.connection import Board
from workers.coordination.in_hand import Whereabouts
from workers.coordination.leases import claim, let_go
from workers.coordination.outbox import Outbox
from workers.coordination.queue_view import Queued, QueueView
from workers.coordination.run_notes import Tally
from workers.runs import OpenRun, Runs

log = logging.getLogger(__name__)

ROUND_INTERVAL_S = 5.0
LOCK_S = 10.0
"""Two rounds: the next process goes on soon after the one with the lock has died."""
AWAIT_S = 10.0
"""How long a chunk that was sent ahead of all others may be without a lease, unless its message still waits."""
FIRST = 1000
"""How many of the next messages are looked through for those sent ahead, besides twice as many as there are."""
REQUEUE_S = 30.0
"""How long a chunk that was lost and queued again is left alone."""
AHEAD_LIMIT = 100
"""So many lost chunks of a run, or fewer, are made before all others; more are a lost queue, and join the line."""
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
        self._ahead: Queued | None = None
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
        self._ahead = None
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
            let_go(self._board, RECONCILER_LOCK, self._worker_id)
            self._rest = True
            self._forget_if_gone(url, run_id, exc)
            watch.unseen_rounds += isinstance(exc, RunNotFoundError)
            if watch.unseen_rounds in (1, UNSEEN_ROUNDS):
                log.warning("a run cannot be seen from here", extra={"action": "run_unseen", "error": str(exc)})
            if watch.unseen_rounds >= UNSEEN_ROUNDS:  # whoever does see it lists it again
                Tally(self._board, run_id).forget()

    def _reconcile(self, run: OpenRun, watch: Watch, queued: Queued | None) -> None:
        whereabouts = Whereabouts(self._board, run.plan.run_id)
        in_hand, orphans = whereabouts.in_hand()
        self._take_over(run, whereabouts, orphans)
        if queued is None:
            return
        seen_to = in_hand | {chunk for run_id, chunk in queued if run_id == run.plan.run_id}
        done = watch.committed | whereabouts.committed()
        if len(done) >= run.plan.chunk_count or len(done | seen_to) < run.plan.chunk_count:
            self._compare_with_store(run, watch, seen_to)

    def _take_over(self, run: OpenRun, whereabouts: Whereabouts, orphans: set[int]) -> None:
        """Queue chunks that a worker left behind, before all others, until another has them."""
        dead = [chunk for chunk in sorted(orphans) if not self._settled(run, chunk)]
        if not dead:
            return
        ours = whereabouts.reserve(dead, AWAIT_S)  # also those that wait: they need no look before that time
        again = [chunk for chunk in ours if (run.plan.run_id, chunk) not in self._first()]
        self._send_ahead(run, again)
        for chunk in again:
            log.warning(
                "a chunk in hand has no worker; it is queued again",
                extra={"action": "chunk_taken_over", **_facts(run, chunk)},
            )

    def _first(self) -> Queued:
        """Return the messages that are taken next, in this round's look: among them is every one sent ahead."""
        if self._ahead is None:
            sets = [RunKeys(run_id).in_hand for run_id in self._watches]
            awaited = self._board.ask(lambda redis: sum(map(redis.scard, sets)), otherwise=0)
            self._ahead = self._queue_view.first(FIRST + 2 * awaited)
        return self._ahead

    def _settled(self, run: OpenRun, chunk: int) -> bool:
        if run.commits.has(chunk):
            Tally(self._board, run.plan.run_id).settle(chunk)
            return True
        return False

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
        self._queue_again(run, _first_missing(run.plan.chunk_count, watch.committed | seen_to))
        return None

    def _queue_again(self, run: OpenRun, missing: set[int]) -> None:
        whereabouts = Whereabouts(self._board, run.plan.run_id)
        lost = whereabouts.missing_again(missing, REQUEUES_PER_ROUND)
        again = whereabouts.reserve(lost, REQUEUE_S)
        if not again:
            return
        if len(again) <= AHEAD_LIMIT:
            self._send_ahead(run, again)
        else:
            self._outbox.chunks(_messages(run, again), run.plan.priority)
        extra = {"action": "chunks_queued_again", **_facts(run, again[0]), "count": len(again)}
        log.warning("lost chunks are queued again, from this one on", extra=extra)

    def _send_ahead(self, run: OpenRun, chunks: list[int]) -> None:
        """Queue chunks so that they are taken next, the first one first, and see to it that somebody takes them."""
        if chunks:
            self._outbox.chunks(_messages(run, reversed(chunks)), run.plan.priority, front=True)
            Whereabouts(self._board, run.plan.run_id).await_worker(chunks)

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


def _first_missing(chunk_count: int, known: set[int]) -> set[int]:
    """Return the first chunks that are not ``known``: those that this look can queue again, and the next one."""
    missing = (chunk for chunk in range(chunk_count) if chunk not in known)
    return set(islice(missing, 2 * REQUEUES_PER_ROUND))


def _messages(run: OpenRun, chunks: Iterable[int]) -> list[ChunkMessage]:
    return [ChunkMessage(run_url=run.folder.url, run_id=run.plan.run_id, chunk=chunk) for chunk in chunks]


def _facts(run: OpenRun, chunk: int) -> dict[str, object]:
    return {"run": run.plan.run_id, "chunk": chunk}
