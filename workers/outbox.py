"""Messages that workers send themselves: a chunk queued again, a run to be finished."""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery
from kombu.exceptions import OperationalError

from ddim_core.contracts.plan import Priority
from ddim_core.contracts.queue import FINISH_RUN_TASK, SAMPLE_CHUNK_TASK, ChunkMessage, FinishMessage, queue_of
from ddim_core.errors import BrokerError
from workers.board import Board


class Outbox:
    """Sends to the queues that this worker reads."""

    def __init__(self, app: Celery, board: Board, queue: str) -> None:
        """Send through ``app``'s broker, which is the ``board``'s Redis."""
        self._app = app
        self._board = board
        self._queue = queue

    def chunks(self, messages: Iterable[ChunkMessage], priority: Priority = "normal", *, front: bool = False) -> None:
        """Queue chunks of runs of this priority; with ``front``, before what waits there.

        Raises:
            BrokerError: Redis did not take them all.
        """
        queue = queue_of(self._queue, priority)
        for message in messages:
            self._send(SAMPLE_CHUNK_TASK, message, queue)
            if front:  # moves the newest message, whoever sent it; at worst another one jumps the queue
                self._board.ask(lambda redis: redis.lmove(queue, queue, "LEFT", "RIGHT"), otherwise=None)

    def finish(self, message: FinishMessage) -> None:
        """Queue the writing of a run's manifest, before the chunks of runs that have more to do.

        Raises:
            BrokerError: Redis did not take it.
        """
        self._send(FINISH_RUN_TASK, message, queue_of(self._queue, "high"))

    def _send(self, task: str, message: ChunkMessage | FinishMessage, queue: str) -> None:
        try:
            self._app.send_task(task, kwargs=message.model_dump(), queue=queue)
        except OperationalError as exc:
            raise BrokerError(f"Redis did not take a message: {exc}") from exc
