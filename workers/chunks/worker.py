"""One chunk in this process: who may work on it, and what becomes of it when something fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field

from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.manifest import ChunkStats
from ddim_core.contracts.plan import Priority
from ddim_core.contracts.queue import ChunkMessage
from ddim_core.errors import (
    BrokerError,
    CheckpointError,
    ChunkDamagedError,
    DeviceError,
    HostError,
    LimitExceededError,
    OutOfMemoryError,
    RunHaltedError,
    RunNotFoundError,
    StorageError,
    SuspectedError,
    WorkerEndsError,
)
from ddim_core.hiding import without_secrets
from workers.chunks.attempt import PAUSE_S, Attempt
from workers.chunks.cancellation import CancelWatch
from workers.chunks.commit import commit_chunk
from workers.chunks.maker import ChunkMaker
from workers.chunks.on_device import OnDevice
from workers.chunks.progress import Progress
from workers.chunks.records import Made, RecordMaker
from workers.chunks.trial import Trial
from workers.coordination.connection import Board
from workers.coordination.leases import Leases
from workers.coordination.run_notes import Tally
from workers.finishing.finisher import Finisher
from workers.meter import Meter
from workers.runs import OpenRun, Runs
from workers.samplers.samplers import SamplerFacts, Samplers
from workers.store_watch import StoreWatch

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""After so many attempts that failed as a whole, through no fault of the store, what is missing is failed rows."""
CAREFUL_FROM_ATTEMPT = 2
"""From this attempt on a chunk is on trial, with no other chunk's images beside its own: a worker did not return from
it, or its device failed, so one of its images may kill processes or break devices."""
MAX_REASON_CHARS = 500
"""Of what Redis is told of a refusal, for ``status``."""
HOLD_OFF_S = 5.0
"""How long a worker without the checkpoint takes nothing else, so that the message finds one that has it."""
AWAY_HOLD_OFF_S = 1.0
"""The same without the store: others that see it get their share, and other runs are not held up for long."""


@dataclass(slots=True)
class ChunkWorker:
    """Does chunks; several threads may call ``sample`` at once."""

    worker_id: str
    device: str
    board: Board
    leases: Leases
    runs: Runs
    samplers: Samplers
    encoders: ThreadPoolExecutor
    finisher: Finisher
    meter: Meter
    requeue: Callable[[ChunkMessage, Priority, bool], None]
    """Puts a message back where another worker may take it; if the third argument is true, before all others."""
    on_device_error: Callable[[], None]
    """Called when the device failed, which a new process may cure."""
    cancels: CancelWatch = field(default_factory=CancelWatch)
    stores: StoreWatch = field(default_factory=StoreWatch)
    limits: Limits = NO_LIMITS
    """What the operator allows; beyond it, images become failed rows."""
    on_device: OnDevice = field(default_factory=OnDevice)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What no row shall show."""
    hold_off_s: float = HOLD_OFF_S
    received: int = 0
    """Messages so far."""

    def sample(self, message: ChunkMessage) -> None:
        """Make and commit the chunk, unless that is done, another worker is at it, or the run was halted.

        While the run's store is away nothing is begun: what cannot be written would be made in vain.
        """
        self.received += 1
        if self.stores.is_away(message.run_url):
            return self._leave(message)
        tally = Tally(self.board, message.run_id)
        lease = tally.keys.lease(message.chunk)
        if not self.leases.take(lease, noted_in=tally.keys.in_hand):
            log.debug("another worker is at this chunk", extra={"action": "chunk_held", **message.model_dump()})
            return None
        try:
            self._with_lease(message, tally)
        except RunNotFoundError as exc:
            self.runs.forget(message.run_url, message.run_id)
            tally.put_down(message.chunk)
            log.error(
                "a chunk was dropped, because its run cannot be seen from here",
                extra={"action": "run_not_found", "chunk": message.chunk, "error": str(exc)},
            )
        except RunHaltedError as exc:
            tally.put_down(message.chunk)
            log.info(
                "a chunk was dropped, because its run was cancelled or paused",
                extra={"action": "chunk_dropped", "run": message.run_id, "chunk": message.chunk, "why": str(exc)},
            )
        except (StorageError, BrokerError, CancelledError) as exc:
            self._give_back(message, tally, exc)
        finally:
            self.leases.release(lease)
        return None

    def _give_back(self, message: ChunkMessage, tally: Tally, exc: Exception) -> None:
        log.error(
            "a chunk was given up for now and will be queued again",
            extra={"action": "chunk_given_back", "chunk": message.chunk, "error": repr(exc)},
        )
        pause_s = PAUSE_S
        if isinstance(exc, StorageError):
            if self._is_listed(message, tally):
                pause_s = self.stores.failed(message.run_url, exc)
                self.stores.ask(message.run_url)
            else:
                tally.put_down(message.chunk)
        tally.give_back(message.chunk, pause_s)

    def _is_listed(self, message: ChunkMessage, tally: Tally) -> bool:
        """Return whether the run is one that this process has seen, or that Redis lists: anyone can send a message."""
        seen = (message.run_url, message.run_id) in self.runs.seen()
        return seen or tally.is_listed_at(message.run_url)

    def _leave(self, message: ChunkMessage) -> None:
        """Leave a chunk to the reconciler, which queues it again when it sees the store, and be slow to take more."""
        Tally(self.board, message.run_id).give_back(message.chunk, PAUSE_S)
        self.stores.hold_off(message.run_url, AWAY_HOLD_OFF_S)

    def give_back_all(self) -> None:
        """Have every chunk in hand given back: the device drops it between two steps, and another worker makes it."""
        self.cancels.stop_all(WorkerEndsError("the worker was asked to end"))

    def _with_lease(self, message: ChunkMessage, tally: Tally) -> None:
        run = self.runs.fresh(message.run_url, message.run_id)
        if message.chunk >= run.plan.chunk_count:
            tally.put_down(message.chunk)
            log.error(
                "a message named a chunk that the run does not have",
                extra={"action": "no_such_chunk", **message.model_dump()},
            )
        elif run.commits.has(message.chunk):
            self._committed(run, tally.settle(message.chunk))
        elif run.folder.halted() is None:
            tally.register(run.folder.url)
            self._attempt(Attempt(run, message.chunk, tally, tally.begin(message.chunk)), message)
        else:
            tally.put_down(message.chunk)

    def _attempt(self, attempt: Attempt, message: ChunkMessage) -> None:
        try:
            self._make(attempt)
        except ChunkDamagedError as exc:
            self._damaged(attempt, exc)
        except WorkerEndsError:
            attempt.tally.excuse(attempt.chunk)
            self._queue_again(attempt, message, front=True)
        except LimitExceededError as exc:
            self._commit_as_failed(attempt, exc)
        except (StorageError, CancelledError, RunHaltedError, RunNotFoundError):
            attempt.tally.excuse(attempt.chunk)
            raise
        except (CheckpointError, HostError) as exc:
            self._refuse(attempt, message, exc)
        except Exception as exc:
            self._failed(attempt, exc)
            if isinstance(exc, DeviceError):
                self.on_device_error()

    def _make(self, attempt: Attempt) -> None:
        items, kept = attempt.items(), attempt.kept()
        plan = attempt.run.plan
        if broken := list(self.limits.run_faults(plan.request_count, plan.image_count)):
            raise LimitExceededError("; ".join(broken))
        careful = attempt.number >= CAREFUL_FROM_ATTEMPT or kept.is_retry
        self.cancels.check()
        with self.samplers.use(plan.model, alone=careful) as loaded:
            attempt.tally.able(self.worker_id)
            self.samplers.prepare(loaded, plan, self.limits)
            attempts = kept.attempts + attempt.number
            records = RecordMaker(plan, loaded.facts, self.worker_id, attempts, self.secrets, loaded.prompts)
            maker = ChunkMaker(
                attempt.run.folder,
                attempt.chunk,
                loaded,
                self.encoders,
                records,
                Progress(attempt.tally, attempt.chunk, self.meter, made=len(kept.rows)),
                on_device=self.on_device,
                stores=self.stores,
                limits=self.limits,
            )
            trial = Trial(maker, attempt.tally.suspects, self.on_device, loaded.facts.slots)
            missing = kept.missing(items)
            with self.cancels.over(attempt.run.folder, maker.stop):
                rows = trial.make(missing) if careful else maker.make(missing)
        if not kept.is_retry:
            _check_memory(rows)
        self._commit(attempt, kept.with_made(rows), records)

    def _commit(self, attempt: Attempt, rows: list[Made], records: RecordMaker) -> None:
        def write() -> tuple[OpenRun, ChunkStats | None]:
            run = attempt.run.again()
            return run, commit_chunk(run.commits, attempt.chunk, rows, records, attempt.clock)

        size_bytes = sum(len(row.image) for row in rows if row.image is not None)
        run, stats = self.stores.insist(attempt.run.folder.url, write, size_bytes=size_bytes)
        if stats is None:
            return self._committed(run, attempt.tally.settle(attempt.chunk))
        log.info(
            "a chunk is committed",
            extra={
                "action": "chunk_committed",
                **attempt.facts(),
                "images": stats.images,
                "failed": stats.failed,
                "seconds": stats.seconds,
            },
        )
        return self._committed(run, attempt.tally.commit(attempt.chunk, stats.images, stats.failed))

    def _committed(self, run: OpenRun, committed: int) -> None:
        if committed >= run.plan.chunk_count:
            self.stores.insist(run.folder.url, lambda: self.finisher.finish(run))

    def _failed(self, attempt: Attempt, exc: Exception) -> None:
        log.error(
            "an attempt at a chunk failed",
            extra={"action": "attempt_failed", **attempt.facts(), "error": repr(exc)},
            exc_info=log.isEnabledFor(logging.DEBUG),
        )
        if isinstance(exc, SuspectedError):  # held against the images that it happened with, which comes to an end, too
            attempt.tally.give_back(attempt.chunk, PAUSE_S)
        elif attempt.tally.fail(attempt.chunk) >= MAX_ATTEMPTS:
            self._commit_as_failed(attempt, exc)
        else:
            attempt.tally.give_back(attempt.chunk, attempt.pause_s)

    def _damaged(self, attempt: Attempt, exc: ChunkDamagedError) -> None:
        """Leave a chunk whose rows nobody can know; stop the run when nothing but such chunks is left of it.

        The mark of a cancelled run ends the wait of whoever waits, and a resume goes on once the file is mended.
        """
        attempt.tally.give_back(attempt.chunk, attempt.pause_s)
        if attempt.number < MAX_ATTEMPTS:
            log.warning(
                "a chunk's file cannot be used; it will be read again",
                extra={"action": "chunk_unreadable", **attempt.facts(), "error": str(exc)},
            )
            return
        if attempt.number == MAX_ATTEMPTS:
            log.error(
                "a chunk's file is damaged; what else there is of its run is made, then the run is stopped",
                extra={"action": "chunk_damaged", **attempt.facts(), "error": str(exc)},
            )
        folder = attempt.run.folder
        left = attempt.run.commits.left(attempt.run.plan.chunk_count)
        if left <= len(attempt.tally.tried(MAX_ATTEMPTS) - attempt.run.commits.chunks()):
            folder.cancel()
            log.error(
                "a run was stopped, as the files of all chunks that are left are damaged; mend them, then resume it",
                extra={"action": "run_stopped", **attempt.facts(), "chunks": left, "error": str(exc)},
            )

    def _refuse(self, attempt: Attempt, message: ChunkMessage, exc: CheckpointError | HostError) -> None:
        log.error(
            "this worker cannot sample the run",
            extra={"action": "run_refused", **attempt.facts(), "error": str(exc)},
        )
        attempt.tally.excuse(attempt.chunk)
        why = " ".join(without_secrets(str(exc), self.secrets).split())[:MAX_REASON_CHARS]
        if attempt.tally.refuse(self.worker_id, why):
            self._commit_as_failed(attempt, exc)
        else:
            self._queue_again(attempt, message, front=False)
            time.sleep(self.hold_off_s)

    def _queue_again(self, attempt: Attempt, message: ChunkMessage, *, front: bool) -> None:
        """Let go of the chunk before another can take the message; if this fails, the reconciler finds it orphaned."""
        attempt.tally.put_down(attempt.chunk)
        self.leases.release(attempt.tally.keys.lease(attempt.chunk))
        self.requeue(message, attempt.run.plan.priority, front)
        log.info("a chunk was queued again", extra={"action": "chunk_passed_on", **attempt.facts()})

    def _commit_as_failed(self, attempt: Attempt, exc: Exception) -> None:
        facts = SamplerFacts(device_kind="none", device=self.device, slots=0, dtype="none", versions="{}")
        kept = attempt.kept()
        records = RecordMaker(attempt.run.plan, facts, self.worker_id, kept.attempts + attempt.number, self.secrets)
        rows = [Made(records.failure(item, exc), None) for item in kept.missing(attempt.items())]
        self._commit(attempt, kept.with_made(rows), records)


def _check_memory(rows: list[Made]) -> None:
    """Make sure that a lack of memory is not the device's, which somebody else may use, but that of single images.

    Raises:
        OutOfMemoryError: There was no memory for any of the chunk's images.
    """
    if rows and all(row.record.error_code == OutOfMemoryError.code for row in rows):
        raise OutOfMemoryError(rows[0].record.error_message)
