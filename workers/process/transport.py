"""kombu's Redis transport as a worker needs it: what is no message, or cannot be acknowledged, does not stop it.

As it stands in kombu 5.7.0, a list item that is not JSON, or not a message, raises through the event loop and ends
the worker; and a message that could not be acknowledged while Redis was away counts as in hand for ever, so that after
a few of them the worker sits beside a full queue and takes nothing. A server that refuses writes, as the old primary
does after a failover, would end the worker too; here it counts as one that is gone.
"""

from __future__ import annotations

import base64
import json
import logging
from queue import Empty
from typing import Any

from kombu.transport import redis, virtual
from redis.exceptions import ReadOnlyError

log = logging.getLogger(__name__)

TRANSPORT = "workers.process.transport:Transport"

_REQUIRED = ("body", "headers", "properties")


class QoS(redis.QoS):  # type: ignore[misc]
    """A count of messages in hand that goes down with every message done, whether or not Redis hears of it."""

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge; without Redis the message may come again, and finds its chunk committed."""
        try:
            super().ack(delivery_tag)
        except self.channel.connection_errors as exc:
            virtual.QoS.ack(self, delivery_tag)
            log.warning("a message was not acknowledged", extra={"action": "ack_lost", "error": str(exc)})


class Channel(redis.Channel):  # type: ignore[misc]
    """A channel that outlives an item which cannot be read. Redis has removed it by then, so it does not come back."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except (ValueError, RecursionError) as exc:  # from json.loads or the decoding of UTF-8
            log.error("dropped an item of the queue that is not JSON", extra={"action": "not_json", "error": str(exc)})
            raise Empty from exc


class Transport(redis.Transport):  # type: ignore[misc]
    """A transport that hands over messages only."""

    Channel = Channel

    connection_errors = (*redis.Transport.connection_errors, ReadOnlyError)

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
        and _has_arguments(item)
    )


def _has_arguments(item: dict[str, Any]) -> bool:
    """Return whether Celery can read the body as the task's arguments; one that it cannot may end the worker."""
    if (item.get("content-type"), item.get("content-encoding")) != ("application/json", "utf-8"):
        return False
    if item["properties"].get("body_encoding") != "base64":
        return False
    try:
        arguments = json.loads(base64.b64decode(item["body"]))
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(arguments, list) and list(map(type, arguments)) == [list, dict, dict]
