"""kombu's Redis transport with one difference: what is no message is dropped.

As it stands, a list item that is not JSON, or not a message, raises through Celery's event loop and ends the worker.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from kombu.transport import redis

log = logging.getLogger(__name__)

TRANSPORT = "workers.transport:Transport"
SCHEMES = ("redis", "rediss")
"""Broker URLs that it serves."""

_REQUIRED = ("body", "headers", "properties")


class Channel(redis.Channel):  # type: ignore[misc]
    """A channel that outlives an item which cannot be read. Redis has removed it by then, so it does not come back."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except ValueError as exc:  # from json.loads or the decoding of UTF-8
            log.error("dropped an item of the queue that is not JSON", extra={"action": "not_json", "error": str(exc)})
            raise Empty from exc


class Transport(redis.Transport):  # type: ignore[misc]
    """A transport that hands over messages only."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> None:
        if is_message(message):
            super()._deliver(message, queue)
        else:
            log.error("dropped an item of the queue that is no message", extra={"action": "no_message"})


def is_message(item: Any) -> bool:
    """Return whether kombu can make a message of an item: an object with a body, headers and delivery properties."""
    if not isinstance(item, dict) or not all(name in item for name in _REQUIRED):
        return False
    headers, properties = item["headers"], item["properties"]
    return (
        isinstance(headers, dict)
        and isinstance(headers.get("task"), str)
        and isinstance(headers.get("id"), str)
        and isinstance(properties, dict)
        and isinstance(properties.get("delivery_info"), dict)
        and isinstance(properties.get("delivery_tag"), str)
    )
