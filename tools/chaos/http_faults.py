"""A proxy before an S3 server that answers a share of the requests itself, and badly: 500, 503 or not at all."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter

from tools.chaos.proxy import Proxy

FAULTS = ("500", "503", "cut before", "cut after")
"""``cut before``: the server never sees the request; ``cut after``: it does, and its answer is lost."""
_REASONS = {"500": b"500 Internal Server Error", "503": b"503 Slow Down"}
_CONNECTION = re.compile(rb"(?im)^connection:[^\r\n]*\r\n")
_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)")


class HttpFaults(Proxy):
    """Lets one request through a connection, so that each of them can meet a fault of its own."""

    def __init__(self, upstream_port: int, *, seed: int) -> None:
        """Let everything through until ``share`` is set."""
        self.share = 0.0
        self.requests = 0
        self.met: Counter[str] = Counter()
        self._random = random.Random(seed)
        super().__init__(upstream_port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        fault = self._random.choice(FAULTS) if self._random.random() < self.share else None
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length and fault else b""
        closing = _CONNECTION.sub(b"", head).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        if fault is None:
            return await self._join(reader, writer, first=closing)
        self.met[fault] += 1
        if fault in _REASONS:
            writer.write(b"HTTP/1.1 " + _REASONS[fault] + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()
            return await writer.wait_closed()
        return await self._lose_answer(closing + body) if fault == "cut after" else None

    async def _lose_answer(self, request: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        writer.write(request)
        await reader.read()
        writer.close()
