"""Checked requests in a temporary file, and the chunk files that they become."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from ddim_core.contracts.request import Request
from ddim_core.errors import HostError
from producer.requests.workload import Workload


@dataclass(frozen=True, slots=True)
class Spool:
    """Requests as they will stand in chunk files, after the numbers of images and windows: a million fit on a disk."""

    file: IO[bytes]
    workload: Workload

    def lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the numbers of images and windows and the JSON of each request, from the first, at each call."""
        self.file.seek(0)
        for line in self.file:
            count, windows, request = line.split(b" ", 2)
            yield int(count), int(windows), request[:-1]


def _one_window(_: Request) -> int:
    return 1


@contextmanager
def spooled(requests: Iterable[Request], windows_of: Callable[[Request], int] = _one_window) -> Iterator[Spool]:
    """Take all requests into a temporary file, which goes when the block ends.

    ``windows_of`` says how many windows of the text encoder a request's prompts fill.

    Raises:
        HostError: There is no room for it.
    """
    workload = Workload()
    with tempfile.TemporaryFile(prefix="ddim-fleet-") as file:
        try:
            for request in requests:
                data, windows = encode_request(request), windows_of(request)
                workload.add(request, len(data), windows)
                file.write(b"%d %d %b\n" % (request.image_count, windows, data))
            file.flush()
        except OSError as exc:
            file.raw.close()  # what could not be written shall not be tried again
            place = tempfile.gettempdir()
            raise HostError(f"there must be room for the requests in {place}, got: {exc.strerror}; set TMPDIR") from exc
        yield Spool(file, workload)


def encode_request(request: Request) -> bytes:
    """Return a request as chunk files have it: what it leaves to the defaults is left out."""
    return Request.__pydantic_serializer__.to_json(request, exclude_defaults=True)


def chunk_files(spool: Spool, images_per_chunk: int, first_index: int = 0) -> Iterator[bytes]:
    """Yield the chunk files of a run in order, of exactly ``images_per_chunk`` images each but for the last.

    They are put together from what is JSON already, at a tenth of what ``encode_chunk`` takes for the same bytes.
    ``first_index`` is the position in its run of the first request.
    """
    chunk: list[bytes] = []
    room = images_per_chunk
    for index, (count, windows, request) in enumerate(spool.lines(), first_index):
        first = 0
        while first < count:
            taken = min(room, count - first)
            chunk.append(_planned_line(index, (first, taken), windows, request))
            first, room = first + taken, room - taken
            if room == 0:
                yield b"".join(chunk)
                chunk, room = [], images_per_chunk
    if chunk:
        yield b"".join(chunk)


def _planned_line(index: int, images: tuple[int, int], windows: int, request: bytes) -> bytes:
    """Return a ``PlannedRequest`` of so many images from a first one on as a line."""
    first, count = images
    skipped = b'"first_image":%d,' % first if first else b""
    filled = b'"windows":%d,' % windows if windows > 1 else b""
    return b'{"index":%d,%b"image_count":%d,%b"request":%b}\n' % (index, skipped, count, filled, request)
