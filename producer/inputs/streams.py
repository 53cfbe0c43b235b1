"""Bytes of a file as they are without compression: gzip and zstd are told by their first bytes, and by the name."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import PurePath
from typing import BinaryIO, Literal

import pyarrow as pa

from ddim_core.errors import InputError

Codec = Literal["gzip", "zstd"]

SUFFIXES: dict[str, Codec] = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
MAGIC: dict[bytes, Codec] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
PIECE_BYTES = 1 << 18

_MAGIC_BYTES = max(map(len, MAGIC))


class Pieces(io.RawIOBase):
    """A file to read whose content comes in pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        """Read the pieces one after another."""
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill as much of ``buffer`` as the current piece allows; return 0 at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def plain_name(name: str) -> str:
    """Return a file's name without the suffix of its compression."""
    path = PurePath(name)
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def plain(name: str, file: BinaryIO) -> io.BufferedReader[Pieces]:
    """Return the content of ``file`` without compression; what reads it finds out where a stream is damaged.

    Raises:
        InputError: It is not compressed as its name says. Reading it: the compressed stream is damaged or cut short.
    """
    head = file.read(_MAGIC_BYTES)
    codec = next((codec for magic, codec in MAGIC.items() if head.startswith(magic)), None)
    promised = SUFFIXES.get(PurePath(name).suffix.lower())
    if promised not in (None, codec):
        raise InputError(f"the file must be compressed with {promised} as its name says, got {head!r} at its start")
    content = _buffered(chain([head], _pieces(file)))
    return content if codec is None else _buffered(_decompressed(content, codec))


def _buffered(pieces: Iterable[bytes]) -> io.BufferedReader[Pieces]:
    return io.BufferedReader(Pieces(pieces), PIECE_BYTES)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece


def _decompressed(content: io.BufferedReader[Pieces], codec: Codec) -> Iterator[bytes]:
    stream = pa.CompressedInputStream(pa.PythonFile(content, mode="r"), codec)
    while True:
        try:
            piece = stream.read(PIECE_BYTES)
        except (OSError, pa.ArrowException) as exc:
            raise InputError(f"the {codec} stream must be whole, but ends here or is damaged ({exc})") from exc
        if not piece:
            return
        yield piece
