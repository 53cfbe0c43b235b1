"""A look at the queues: which chunks of which runs wait in them."""

from __future__ import annotations

import base64
import json
import time

from redis import Redis

from ddim_core.contracts.queue import SAMPLE_CHUNK_TASK, ChunkMessage, queues_of
from workers.coordination.connection import Board

PAGE = 1000
MIN_INTERVAL_S = 15.0
COST_FACTOR = 20
"""A scan is not repeated before so many times its own duration: a queue of 100,000 messages takes seconds to read."""

Queued = frozenset[tuple[str, int]]


class QueueView:
    """Reads the queues of all priorities, often when they are empty and seldom when they are long."""

    def __init__(self, board: Board, queue: str) -> None:
        """Look at ``queue`` and those for other priorities."""
        self._board = board
        self._queues = queues_of(queue)
        self._next_scan_at = 0.0

    def queued(self) -> Queued | None:
        """Return (run id, chunk) of the messages that wait, or None if it is too early to look again or Redis is away.

        The queue moves while it is read, so a message can be missed: believe only what two looks agree on.
        """
        waiting = self._board.ask(lambda redis: sum(map(redis.llen, self._queues)), otherwise=None)
        if waiting == 0:
            return frozenset()
        began = time.monotonic()
        if waiting is None or began < self._next_scan_at:
            return None
        found = self._board.ask(self._scan, otherwise=None)
        now = time.monotonic()
        self._next_scan_at = now + max(MIN_INTERVAL_S, COST_FACTOR * (now - began))
        return found

    def first(self, count: int) -> Queued:
        """Return (run id, chunk) of the ``count`` messages of each priority that workers take next."""

        def look(redis: Redis) -> Queued:
            items = [item for queue in self._queues for item in redis.lrange(queue, -count, -1)]
            return frozenset(named for item in items if (named := named_chunk(item)) is not None)

        return self._board.ask(look, otherwise=Queued())

    def _scan(self, redis: Redis) -> Queued:
        found: set[tuple[str, int]] = set()
        for queue in self._queues:
            start = 0
            while page := redis.lrange(queue, start, start + PAGE - 1):
                found.update(named for item in page if (named := named_chunk(item)) is not None)
                start += PAGE
        return frozenset(found)


def named_chunk(item: str | bytes) -> tuple[str, int] | None:
    """Return run id and chunk of a message as kombu keeps it in Redis; None for any other."""
    try:
        envelope = json.loads(item)
        if envelope["headers"]["task"] != SAMPLE_CHUNK_TASK:
            return None
        body = base64.b64decode(envelope["body"])
        message = ChunkMessage.model_validate(json.loads(body)[1])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return None
    return message.run_id, message.chunk
