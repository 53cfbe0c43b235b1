"""Messages that workers send themselves: a chunk queued again, a run to be finished."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from celery import Celery
from kombu.exceptions import OperationalError

from ddim_core.contracts.plan import Priority
from ddim_core.contracts.queue import FINISH_RUN_TASK, SAMPLE_CHUNK_TASK, ChunkMessage, FinishMessage, queue_of
from ddim_core.errors import BrokerError
from workers.coordination.connection import Board

_MOVE_AHEAD = """
for _, item in ipairs(redis.call('lrange', KEYS[1], 0, tonumber(ARGV[2]) - 1)) do
  if string.find(item, ARGV[1], 1, true) then
    redis.call('lrem', KEYS[1], 1, item)
    return redis.call('rpush', KEYS[1], item)
  end
end
return 0
"""
NEWEST = 1000
"""Among how many messages that came last one is looked for that shall be the next: others send at the same time."""


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
            task_id = self._send(SAMPLE_CHUNK_TASK, message, queue)
            if front:
                self._move_ahead(queue, task_id)

    def finish(self, message: FinishMessage) -> None:
        """Queue the writing of a run's manifest, before the chunks of runs that have more to do.

        Raises:
            BrokerError: Redis did not take it.
        """
        self._send(FINISH_RUN_TASK, message, queue_of(self._queue, "high"))

    def _move_ahead(self, queue: str, task_id: str) -> None:
        self._board.ask(lambda redis: redis.eval(_MOVE_AHEAD, 1, queue, task_id, str(NEWEST)), otherwise=0)

    def _send(self, task: str, message: ChunkMessage | FinishMessage, queue: str) -> str:
        task_id = str(uuid.uuid4())
        try:
            self._app.send_task(task, kwargs=message.model_dump(), queue=queue, task_id=task_id)
        except OperationalError as exc:
            raise BrokerError(f"Redis did not take a message: {exc}") from exc
        return task_id
