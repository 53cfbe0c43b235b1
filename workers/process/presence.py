"""What a worker says of itself in Redis every few seconds."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable

from redis import Redis

from ddim_core.contracts.checkpoints import CheckpointNote
from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.queue import WORKER_TTL_S, WorkerReport, WorkerState, worker_key
from ddim_core.contracts.sample import Counters
from ddim_core.version import __version__
from workers.coordination.connection import Board
from workers.coordination.reports import take_back
from workers.meter import Meter
from workers.periodic import Periodic
from workers.samplers.samplers import Samplers

REPORT_INTERVAL_S = 5.0


class Presence:
    """Writes this worker's report, which expires when the worker is gone."""

    def __init__(  # noqa: PLR0913 - what it tells comes from as many places
        self,
        board: Board,
        worker_id: str,
        device: str,
        meter: Meter,
        *,
        chunks: Callable[[], tuple[str, ...]],
        samplers: Samplers,
        host: str | None = None,
        troubles: Callable[[], tuple[str, ...]] = tuple,
        limits: Limits = NO_LIMITS,
        checkpoints: Callable[[], tuple[CheckpointNote, ...]] = tuple,
    ) -> None:
        """Report what ``meter``, ``chunks``, ``samplers`` and others say at the time, and the ``limits``."""
        self._board = board
        self._worker_id = worker_id
        self._device = device
        self._host = host or socket.gethostname()
        self._meter = meter
        self._chunks = chunks
        self._samplers = samplers
        self._troubles = troubles
        self._limits = limits
        self._checkpoints = checkpoints
        self._seen = Counters()
        self._state: WorkerState = "starting"
        self._report_lock = threading.Lock()
        self.latest = self._make_report()
        """What was reported last."""
        self._reports = Periodic("presence", REPORT_INTERVAL_S, self.report)

    def start(self) -> None:
        """Begin to report."""
        self._reports.start()

    def say(self, state: WorkerState) -> None:
        """Report a change of state at once."""
        self._state = state
        self.report()

    def stop(self) -> None:
        """Report no more, and take the last report back."""
        self._reports.stop()
        take_back(self._board, self._worker_id)

    def report(self) -> None:
        """Write the report."""
        with self._report_lock:
            self.latest = report = self._make_report()

        def write(redis: Redis) -> None:
            redis.set(worker_key(self._worker_id), report.model_dump_json(), ex=WORKER_TTL_S)

        self._board.ask(write, otherwise=None)

    def _make_report(self) -> WorkerReport:
        state: WorkerState = "compiling" if self._state == "ready" and self._samplers.is_warming_up else self._state
        if state in ("starting", "compiling"):
            self._meter.restart()
        images, images_per_s = self._meter.read()
        before, self._seen = self._seen, self._samplers.counters()
        now = self._seen
        return WorkerReport(
            worker_id=self._worker_id,
            host=self._host,
            pid=os.getpid(),
            device=self._device,
            state=state,
            chunks=self._chunks(),
            images=images,
            images_per_s=round(images_per_s, 3),
            slot_occupancy=round(occupancy_since(before, now), 3),
            steps=now.steps,
            full_steps=round(now.full_steps, 3),
            seconds={stage: round(seconds, 3) for stage, seconds in now.seconds.items()},
            graphs=now.graphs,
            graphs_since_warm_up=now.graphs_since_warm_up,
            slots=dict(now.slots),
            memory_shortages=now.memory_shortages,
            troubles=self._troubles(),
            version=__version__,
            kernels=self._samplers.kernels,
            limits=self._limits,
            checkpoints=self._checkpoints(),
        )


def occupancy_since(before: Counters, now: Counters) -> float:
    """Return how full the slots were in the steps since ``before``, 0 to 1; 0 where there were none."""
    if now.steps < before.steps:  # another checkpoint was loaded
        before = Counters()
    steps = now.steps - before.steps
    return min(1.0, max(0.0, (now.full_steps - before.full_steps) / steps)) if steps else 0.0
