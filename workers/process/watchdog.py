"""A watch over this process: what stands still without an error is ended, and the launcher starts it afresh.

Three things do so. A consumer can lose Redis without noticing and sit idle beside a full queue: Celery and kombu had
several such faults, one of them mended in ``transport``. A device or its driver can hang, on whatever images or
on one. And a native call can hang that holds the interpreter's lock, so that no thread of this process runs, not even
this one: against that the kernel is asked to end the process unless it is asked again in time.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable

from ddim_core.contracts.queue import queues_of
from workers.coordination.connection import Board

log = logging.getLogger(__name__)

MAX_CHECK_INTERVAL_S = 10.0
CHECKS_PER_TIMEOUT = 4
IDLE_S = 60.0
"""Beside a full queue: longer than a reconnection takes, and than any pause this worker makes by itself."""
LOADING_S = 1800.0
"""While it loads, compiles or stores and has no image on the device: longer than any of that took."""
ALARM_MARGIN_S = 60.0
"""A busy host may not let this process run for a while."""


class Watchdog:
    """Looks again and again at what should move, and says when it has stood still for too long."""

    def __init__(
        self,
        board: Board,
        queue: str,
        *,
        stall_timeout_s: float,
        restart: Callable[[], None],
        abort: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """End the process by ``restart``, which finishes what is in hand, or by ``abort`` where that cannot be done."""
        self._board = board
        self._queues = queues_of(queue)
        self._limits_s = {"idle": IDLE_S, "stuck": stall_timeout_s, "stalled": max(stall_timeout_s, LOADING_S)}
        self._restart = restart
        self._abort = abort
        self._clock = clock
        self._since = dict.fromkeys(self._limits_s, clock())
        self._last = (-1, -1)
        self._bitten: set[str] = set()

    @property
    def alarm_s(self) -> float:
        """After how long without a check the process is to be ended by the kernel."""
        return self._limits_s["stalled"] + ALARM_MARGIN_S

    def check(self, *, on_device: bool, busy: bool, received: int, done: int) -> None:
        """Look once.

        Args:
            on_device: Whether images are on the device, and nothing is being compiled before them.
            busy: Whether a chunk is in hand or the first checkpoint is being loaded.
            received: Messages that this process has begun with.
            done: Steps, images and compiled graphs so far.
        """
        device_moved = done != self._last[1]
        moved = device_moved or received != self._last[0]
        self._last = (received, done)
        waiting = self._board.ask(lambda redis: sum(map(redis.llen, self._queues)), otherwise=0)
        stands = {
            "idle": waiting and not busy and not moved,
            "stuck": on_device and not device_moved,  # messages that come and are refused do not help it
            "stalled": busy and not moved,
        }
        if self._is_late("idle", stands["idle"]):
            log.error("messages wait and none comes; this process ends", extra={"action": "consumer_stuck"})
            self._restart()
        if [name for name in ("stuck", "stalled") if self._is_late(name, stands[name])]:
            log.error("the device stands still; this process ends", extra={"action": "device_stuck"})
            self._abort()

    def _is_late(self, name: str, stands: object) -> bool:
        """Return, once, whether something has stood still for longer than it may."""
        now = self._clock()
        if not stands:
            self._since[name] = now
        if name in self._bitten or now - self._since[name] < self._limits_s[name]:
            return False
        self._bitten.add(name)
        return True


def check_interval_s(stall_timeout_s: float) -> float:
    """Return how often to check, so that a short timeout is not overrun by much."""
    return min(MAX_CHECK_INTERVAL_S, stall_timeout_s / CHECKS_PER_TIMEOUT)


def set_alarm(within_s: float) -> None:
    """Have the kernel end this process unless this is called again within so many seconds; 0: do not.

    By SIGALRM, which nothing else here uses and whose default is to end the process: that needs no thread of its own.
    """
    signal.alarm(math.ceil(within_s))
