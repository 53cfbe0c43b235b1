"""Messages that workers send themselves: a chunk queued again, a run to be finished."""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery
from kombu.exceptions import OperationalError

from ddim_core.contracts.queue import FINISH_RUN_TASK, SAMPLE_CHUNK_TASK, ChunkMessage, FinishMessage
from ddim_core.errors import BrokerError
from workers.board import Board


class Outbox:
    """Sends to the queue that this worker reads."""

    def __init__(self, app: Celery, board: Board, queue: str) -> None:
        """Send through ``app``'s broker, which is the ``board``'s Redis."""
        self._app = app
        self._board = board
        self._queue = queue

    def chunks(self, messages: Iterable[ChunkMessage], *, front: bool = False) -> None:
        """Queue chunks; with ``front``, before what waits.

        Raises:
            BrokerError: Redis did not take them all.
        """
        for message in messages:
            self._send(SAMPLE_CHUNK_TASK, message)
            if front:  # moves the newest message, whoever sent it; at worst another one jumps the queue
                self._board.ask(lambda redis: redis.lmove(self._queue, self._queue, "LEFT", "RIGHT"), otherwise=None)

    def finish(self, message: FinishMessage) -> None:
        """Queue the writing of a run's manifest.

        Raises:
            BrokerError: Redis did not take it.
        """
        self._send(FINISH_RUN_TASK, message)

    def _send(self, task: str, message: ChunkMessage | FinishMessage) -> None:
        try:
            self._app.send_task(task, kwargs=message.model_dump(), queue=self._queue)
        except OperationalError as exc:
            raise BrokerError(f"Redis did not take a message: {exc}") from exc
