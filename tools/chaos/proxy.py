"""A TCP proxy that can cut, freeze, delay and slow what goes through it, from another thread and at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Future

_PIECE_BYTES = 16 << 10


class Proxy:
    """Stands before one port of the loopback interface. While frozen it accepts connections and passes nothing on."""

    def __init__(self, upstream_port: int) -> None:
        """Listen on a free port of the loopback interface, in a thread of its own."""
        self.delay_s = 0.0
        self.bytes_per_s: float | None = None
        self._upstream_port = upstream_port
        self._free_at = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._accept, "127.0.0.1", 0), self._loop
        ).result(10)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Reset every connection; new ones are let through."""
        self._in_loop(lambda: [_reset(writer) for writer in list(self._writers)])

    def redirect(self, upstream_port: int) -> None:
        """Have new connections go to another server; those that are open stay."""
        self._upstream_port = upstream_port

    def freeze(self) -> None:
        """Pass nothing on, and tell nobody."""
        self._in_loop(self._flows.clear)

    def thaw(self) -> None:
        """Pass on again, what was held up first."""
        self._in_loop(self._flows.set)

    def close(self) -> None:
        """Cut everything and stop listening."""
        self._in_loop(self._server.close)
        self.cut()
        asyncio.run_coroutine_threadsafe(_end_others(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _in_loop(self, act: Callable[[], object]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            try:
                act()
            except Exception as exc:  # for who waits, or the scenario would end without a reason
                done.set_exception(exc)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result(10)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._flows.wait()
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one of the two sides is gone, or the proxy ends; whoever is left is told below
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._join(reader, writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, first: bytes = b"") -> None:
        """Connect with the server, send it ``first``, then pass on both ways until either side has ended."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        self._writers.add(server_writer)
        try:
            if first:
                await self._send(server_writer, first)
            ways = [
                asyncio.ensure_future(self._pass_on(reader, server_writer)),
                asyncio.ensure_future(self._pass_on(server_reader, writer)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            await _flush(writer)
        finally:
            self._writers.discard(server_writer)
            server_writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_PIECE_BYTES):
            await self._send(writer, data)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._flows.wait()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.bytes_per_s:  # shared by all connections, as a link is
            now = self._loop.time()
            self._free_at = max(now, self._free_at) + len(data) / self.bytes_per_s
            await asyncio.sleep(self._free_at - now)
        writer.write(data)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset: with a linger of no seconds, the system sends no orderly end."""
    with contextlib.suppress(OSError):  # it was closed a moment ago, and the system has its number back
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _flush(writer: asyncio.StreamWriter) -> None:
    """Close once all that was written is on its way; a reset could overtake it."""
    writer.close()
    await writer.wait_closed()


async def _end_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
