"""A shard read from end to end in one pass: its own hash, and the hash of each image in it.

``tarfile`` reads a stream in pieces of ten kilobytes, copies them and checks each header twice over, which takes longer
than the hashing; and it takes a tar that was cut between two members for a whole one. Shards hold plain files with
short names only, so reading them takes few lines.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from producer.verify.faults import Digest

BLOCK_BYTES = tarfile.BLOCKSIZE
_PLAIN_FILE = b"0"
_USTAR = b"ustar\x0000"


@dataclass(slots=True)
class ShardContents:
    """What a shard came to."""

    whole: Digest
    members: dict[str, str | None] = field(default_factory=dict)
    """Name -> sha256 of those that are hashed, None of the others."""
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

    def take(self, size_bytes: int) -> Iterable[memoryview]:
        """Return the next so many bytes, in as many pieces as they come in; go through all of them before the next."""
        if size_bytes <= len(self._left):  # nearly always
            taken, self._left = self._left[:size_bytes], self._left[size_bytes:]
            return (taken,)
        return self._take_on(size_bytes)

    def rest(self) -> Digest:
        """Go to the end; return what all of it came to."""
        while self._wind():
            pass
        return Digest(self._size_bytes, self._sha256.hexdigest())

    def _take_on(self, size_bytes: int) -> Iterator[memoryview]:
        while size_bytes:
            if not self._left and not self._wind():
                raise _Truncated
            taken, self._left = self._left[:size_bytes], self._left[size_bytes:]
            size_bytes -= len(taken)
            yield taken

    def _wind(self) -> bool:
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._sha256.update(piece)
        self._size_bytes += len(piece)
        self._left = memoryview(piece)
        return True


def read_shard(pieces: Iterable[bytes], hashed: str) -> ShardContents:
    """Return the hash of a shard and of its members whose names end in ``hashed``; a damaged one is read to its end.

    A piece is in memory at a time.
    """
    tape = _Tape(pieces)
    contents = ShardContents(Digest(0, ""))
    try:
        for name, size_bytes in _headers(tape):
            if name in contents.members:
                contents.repeated.append(name)
            padding = -size_bytes % BLOCK_BYTES
            if name.endswith(hashed):
                contents.members[name] = _member(tape, size_bytes)
                _pass_by(tape, padding)
            else:
                contents.members[name] = None
                _pass_by(tape, size_bytes + padding)
    except _Truncated:
        contents.broken = "a tar file that ends in its middle"
    except tarfile.TarError as exc:
        contents.broken = f"no tar file ({exc})"
    contents.whole = tape.rest()
    return contents


def read_member(pieces: Iterable[bytes], wanted: str) -> bytes | None:
    """Return one member of a shard, or None if it is not in it or the shard ends before it."""
    return next((data for _, data in read_members(pieces, {wanted: None})), None)


def read_members(pieces: Iterable[bytes], wanted: Mapping[str, int | None]) -> Iterator[tuple[str, bytes]]:
    """Yield the members of these names and sizes, None for any size, as far as a shard has them before it ends.

    No piece is read after the last of them.
    """
    tape, left = _Tape(pieces), dict(wanted)
    try:
        for name, size_bytes in _headers(tape) if left else ():
            padding = -size_bytes % BLOCK_BYTES
            if name in left and left.pop(name) in (None, size_bytes):
                yield name, b"".join(tape.take(size_bytes))
                if not left:
                    return
                _pass_by(tape, padding)
            else:
                _pass_by(tape, size_bytes + padding)
    except (_Truncated, tarfile.TarError):
        return


def member_offsets(pieces: Iterable[bytes]) -> dict[str, int]:
    """Return where the header of each member of a shard begins, in bytes; the whole shard goes by."""
    tape, offset, offsets = _Tape(pieces), 0, {}
    try:
        for name, size_bytes in _headers(tape):
            offsets[name] = offset
            offset += BLOCK_BYTES + padded(size_bytes)
            _pass_by(tape, padded(size_bytes))
    except (_Truncated, tarfile.TarError):
        pass
    return offsets


def padded(size_bytes: int) -> int:
    """Return the room that so many bytes take in a shard."""
    return size_bytes + -size_bytes % BLOCK_BYTES


def _headers(tape: _Tape) -> Iterator[tuple[str, int]]:
    """Yield name and size of each member; whoever takes one must pass its bytes before the next."""
    while any(block := b"".join(tape.take(BLOCK_BYTES))):
        yield plain_header(block) or _any_header(block)


def plain_header(block: bytes) -> tuple[str, int] | None:
    """Return name and size from a header such as our own shards have, without its checksum: the shard's hash says more.

    None for any other.
    """
    plain = block[156:157] == _PLAIN_FILE and block[257:265] == _USTAR and not block[345]  # no prefix of a long name
    name, size = block[:100].partition(b"\0")[0], block[124:135]
    if not plain or not name.isascii() or not size.isdigit():
        return None
    try:
        return name.decode("ascii"), int(size, 8)
    except ValueError:  # an 8 or a 9
        return None


def _any_header(block: bytes) -> tuple[str, int]:
    header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
    return header.name, header.size


def _member(tape: _Tape, size_bytes: int) -> str:
    sha256 = hashlib.sha256()
    for piece in tape.take(size_bytes):
        sha256.update(piece)
    return sha256.hexdigest()


def _pass_by(tape: _Tape, size_bytes: int) -> None:
    for _ in tape.take(size_bytes):
        pass
