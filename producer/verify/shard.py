"""A shard read from end to end in one pass: its own hash, and the hash of each of its members.

``tarfile`` reads a stream in pieces of ten kilobytes and copies them at each header, and it takes a tar that was cut
between two members for a whole one. Shards hold plain files with short names only, so reading them takes few lines.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from producer.verify.faults import Digest

_BLOCK_BYTES = tarfile.BLOCKSIZE


@dataclass(slots=True)
class ShardContents:
    """What a shard came to."""

    whole: Digest
    members: dict[str, Digest] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)
    """Names that come more than once."""
    broken: str | None = None
    """Why reading ended before the archive's end."""


class _Truncated(Exception):
    pass


class _Tape:
    """Bytes in order, hashed as they go by."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._left = memoryview(b"")
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0

    def take(self, size_bytes: int) -> Iterator[memoryview]:
        """Yield the next so many bytes, in as many pieces as they come in."""
        while size_bytes:
            if not self._left and not self._wind():
                raise _Truncated
            taken, self._left = self._left[:size_bytes], self._left[size_bytes:]
            size_bytes -= len(taken)
            yield taken

    def rest(self) -> Digest:
        """Go to the end; return what all of it came to."""
        while self._wind():
            pass
        return Digest(self._size_bytes, self._sha256.hexdigest())

    def _wind(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._sha256.update(piece)
        self._size_bytes += len(piece)
        self._left = memoryview(piece)
        return True


def read_shard(pieces: Iterable[bytes]) -> ShardContents:
    """Return the hashes of a shard and its members, a piece in memory at a time; a damaged one is read to its end."""
    tape = _Tape(pieces)
    contents = ShardContents(Digest(0, ""))
    try:
        for member in _headers(tape):
            if member.name in contents.members:
                contents.repeated.append(member.name)
            contents.members[member.name] = _member(tape, member.size)
    except _Truncated:
        contents.broken = "a tar file that ends in its middle"
    except tarfile.TarError as exc:
        contents.broken = f"no tar file ({exc})"
    contents.whole = tape.rest()
    return contents


def _headers(tape: _Tape) -> Iterator[tarfile.TarInfo]:
    """Yield the header of each member; whoever takes one must read its member before the next."""
    while any(block := b"".join(tape.take(_BLOCK_BYTES))):
        yield tarfile.TarInfo.frombuf(block, "utf-8", "replace")


def _member(tape: _Tape, size_bytes: int) -> Digest:
    sha256 = hashlib.sha256()
    for piece in tape.take(size_bytes):
        sha256.update(piece)
    for _ in tape.take(-size_bytes % _BLOCK_BYTES):
        pass
    return Digest(size_bytes, sha256.hexdigest())
