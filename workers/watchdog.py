"""A watch over the consumer: a worker that sits idle beside a full queue has lost Redis without noticing.

Celery and kombu have had several such faults, one of them mended in ``workers.transport``; a fresh process cures all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from workers.board import Board

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 10.0
PATIENCE_CHECKS = 6
"""A minute: longer than a reconnection takes, and than any pause this worker makes by itself."""


class Watchdog:
    """Calls ``restart`` when messages wait, nothing is in hand, and nothing has come for a minute."""

    def __init__(self, board: Board, queue: str, received: Callable[[], int], restart: Callable[[], None]) -> None:
        """Watch ``queue`` and ``received``, the number of messages that this process has begun with."""
        self._board = board
        self._queue = queue
        self._received = received
        self._restart = restart
        self._last = -1
        self._idle_checks = 0

    def check(self, *, busy: bool) -> None:
        """Look once; ``busy`` says that something is in hand."""
        waiting = self._board.ask(lambda redis: redis.llen(self._queue), otherwise=0)
        received = self._received()
        idle = waiting > 0 and not busy and received == self._last
        self._last = received
        self._idle_checks = self._idle_checks + 1 if idle else 0
        if self._idle_checks == PATIENCE_CHECKS:
            log.error("messages wait and none comes; this process ends", extra={"action": "consumer_stuck"})
            self._restart()
