"""Redis as a worker sees it: a board of notes that may be wiped at any time, and whose loss costs time but no image."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from ddim_core.broker_url import check_broker_url

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

SILENCE_S = 2.0
"""After a failure the board is left alone for this long, so that no thread spends its time waiting for a dead Redis."""


class Board:
    """A connection pool to Redis, and a way to use it that never stops the caller's own work."""

    def __init__(self, url: str) -> None:
        """Connect lazily, at the first question.

        Raises:
            InputError: The URL is none that Redis has.
        """
        self.url = url
        check_broker_url(url)
        # One retry, because a restart of Redis leaves stale connections in the pool.
        self.redis = redis.Redis.from_url(
            url,
            decode_responses=True,
            encoding_errors="replace",  # anyone can put into the queue what is no text
            socket_timeout=5,
            socket_connect_timeout=3,
            health_check_interval=15,
            retry=Retry(NoBackoff(), 1),
        )
        self._silent_until = 0.0
        self._down = False

    def ask(self, question: Callable[[redis.Redis], Answer], *, otherwise: Answer) -> Answer:
        """Return what ``question`` brings, or ``otherwise`` while Redis is unavailable."""
        if time.monotonic() < self._silent_until:
            return otherwise
        try:
            answer = question(self.redis)
        except RedisError as exc:
            self._lost(exc)
            return otherwise
        if self._down:
            self._down = False
            log.info("Redis is back", extra={"action": "redis_back"})
        return answer

    def close(self) -> None:
        """Drop the connections."""
        self.redis.close()

    def _lost(self, exc: RedisError) -> None:
        if isinstance(exc, ResponseError):  # after a failover it refuses to write, and its name leads to another server
            self.redis.connection_pool.disconnect(inuse_connections=False)
        self._silent_until = time.monotonic() + SILENCE_S
        if not self._down:
            self._down = True
            log.warning(
                "Redis does not answer; work in hand goes on", extra={"action": "redis_lost", "error": str(exc)}
            )
