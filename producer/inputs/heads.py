"""The first bytes of an input, looked at before it is read: as many of a pipe that is slow as of a file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from ddim_core.errors import InputError
from producer.inputs.streams import PIECE_BYTES, Pieces

HEAD_BYTES = 1 << 16
"""What a format is told by; a pipe is waited for until it has given so many, or ends."""


@dataclass(frozen=True, slots=True)
class Head:
    """How an input begins."""

    data: bytes
    is_whole: bool
    """Whether that is all of it."""
    was_old_mac: bool = False
    """Whether lines ended in carriage returns, which are line feeds now."""

    @property
    def text(self) -> str:
        """The same as text, with a mark for what is none, and without the mark of a byte order."""
        return self.data.decode(errors="replace").removeprefix("\ufeff")


def headed(content: io.BufferedReader[Pieces]) -> tuple[Head, io.BufferedReader[Pieces]]:
    """Return how an input begins, and the input from its beginning.

    Damage within the head is left for whoever reads that far.
    """
    pieces: list[bytes] = []
    length = 0
    failure: InputError | None = None
    try:
        while length < HEAD_BYTES and (piece := content.read1(HEAD_BYTES)):
            pieces.append(piece)
            length += len(piece)
    except InputError as exc:
        failure = exc
    head = Head(b"".join(pieces), is_whole=failure is None and length < HEAD_BYTES)
    return head, buffered(chain(pieces, _rest(content, failure)))


def buffered(pieces: Iterable[bytes]) -> io.BufferedReader[Pieces]:
    """Return a file whose content comes in pieces."""
    return io.BufferedReader(Pieces(pieces), PIECE_BYTES)


def pieces_of(content: io.BufferedReader[Pieces]) -> Iterator[bytes]:
    """Yield what is left of a file, as it comes."""
    while piece := content.read1(PIECE_BYTES):
        yield piece


def _rest(content: io.BufferedReader[Pieces], failure: InputError | None) -> Iterator[bytes]:
    if failure is not None:
        raise failure
    yield from pieces_of(content)
