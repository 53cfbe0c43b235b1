"""A proxy before an S3 server that answers a share of the requests itself, and badly, or all of them for a while."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter

from tools.chaos.proxy import Proxy

FAULTS = ("500", "503", "cut before", "cut within", "cut after")
"""``cut before``: the server never sees the request. Else it does: half of its answer comes through, or nothing."""
AWAY, EXPIRED = "cut before", "403"
"""What ``always`` may be, for a server that is away and for credentials that it takes no more."""
_REASONS = {
    "403": b"403 Forbidden",
    "429": b"429 Too Many Requests\r\nRetry-After: 1",
    "500": b"500 Internal Server Error",
    "503": b"503 Slow Down\r\nRetry-After: 1",
}
_EXPIRED_BODY = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
_CONNECTION = re.compile(rb"(?im)^connection:[^\r\n]*\r\n")
_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)")


class HttpFaults(Proxy):
    """Lets one request through a connection, so that each of them can meet a fault of its own."""

    def __init__(self, upstream_port: int, *, seed: int) -> None:
        """Let everything through until ``share`` or ``always`` is set."""
        self.share = 0.0
        self.always: str | None = None
        self.requests = 0
        self.met: Counter[str] = Counter()
        self._random = random.Random(seed)
        super().__init__(upstream_port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        fault = self._fault(head)
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length and fault else b""
        closing = _CONNECTION.sub(b"", head).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        if fault is None:
            await self._join(reader, writer, first=closing)
            return
        self.met[fault] += 1
        if fault in _REASONS:
            await _refuse(writer, fault)
        elif fault != "cut before":
            answer = await self._answer_to(closing + body)
            writer.write(_cut_within(answer) if fault == "cut within" else b"")
            await writer.drain()

    def _fault(self, _head: bytes) -> str | None:
        """Return what becomes of the request that begins so."""
        return self.always or (self._random.choice(FAULTS) if self._random.random() < self.share else None)

    async def _answer_to(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer


def _cut_within(answer: bytes) -> bytes:
    """Return a part of an answer that no client can take for whole: not all of its body, or not even a status."""
    head, end, body = answer.partition(b"\r\n\r\n")
    return head + end + body[: len(body) // 2] if body else answer[:10]


async def _refuse(writer: asyncio.StreamWriter, status: str) -> None:
    body = _EXPIRED_BODY if status == EXPIRED else b""
    head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (_REASONS[status], len(body))
    writer.write(head + body)
    writer.close()
    await writer.wait_closed()
