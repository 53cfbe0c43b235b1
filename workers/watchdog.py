"""A watch over this process: what stands still without an error is ended, and the launcher starts it afresh.

Two things do so. A consumer can lose Redis without noticing and sit idle beside a full queue: Celery and kombu had
several such faults, one of them mended in ``workers.transport``. And a device or its driver can hang.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ddim_core.contracts.queue import queues_of
from workers.board import Board

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 10.0
IDLE_CHECKS = 6
"""A minute beside a full queue: longer than a reconnection takes, and than any pause this worker makes by itself."""
STALLED_CHECKS = 180
"""Half an hour, loading or with chunks in hand, and neither a step nor an image: longer than any graph took to
compile."""


class Watchdog:
    """Counts the checks in a row in which nothing moved that should."""

    def __init__(self, board: Board, queue: str, *, restart: Callable[[], None], abort: Callable[[], None]) -> None:
        """End the process by ``restart``, which finishes what is in hand, or by ``abort`` where that cannot be done."""
        self._board = board
        self._queues = queues_of(queue)
        self._restart = restart
        self._abort = abort
        self._idle_checks = 0
        self._stalled_checks = 0
        self._last = (-1, -1)

    def check(self, *, busy: bool, received: int, done: int) -> None:
        """Look once.

        Args:
            busy: Whether a chunk is in hand or the first checkpoint is being loaded.
            received: Messages that this process has begun with.
            done: Steps, images and compiled graphs so far.
        """
        moved = (received, done) != self._last
        self._last = (received, done)
        waiting = self._board.ask(lambda redis: sum(map(redis.llen, self._queues)), otherwise=0)
        self._idle_checks = 0 if moved or busy or not waiting else self._idle_checks + 1
        self._stalled_checks = 0 if moved or not busy else self._stalled_checks + 1
        if self._idle_checks == IDLE_CHECKS:
            log.error("messages wait and none comes; this process ends", extra={"action": "consumer_stuck"})
            self._restart()
        if self._stalled_checks == STALLED_CHECKS:
            log.error("the device stands still; this process ends", extra={"action": "device_stuck"})
            self._abort()
