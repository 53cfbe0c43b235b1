"""One thing that is wrong with a finished run, and how a file is compared with what the manifest says of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ddim_core.contracts.manifest import FileEntry
from ddim_core.storage.objects import ObjectStore

NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class RunFault:
    """One thing wrong with a run; reads as ``<path>: <key> must <rule>, got <value>``."""

    path: str
    """Object in the run's folder."""
    key: str | None
    """Image, where the fault is one image's."""
    rule: str
    got: str

    def __str__(self) -> str:
        return f"{self.path}: {f'{self.key} ' if self.key else ''}{self.rule}, got {self.got}"


@dataclass(frozen=True, slots=True)
class Digest:
    """What an object's bytes come to."""

    size_bytes: int
    sha256: str


def digest_of(pieces: Iterable[bytes]) -> Digest:
    """Return size and sha256 of the bytes, a piece in memory at a time."""
    sha256, size_bytes = hashlib.sha256(), 0
    for piece in pieces:
        sha256.update(piece)
        size_bytes += len(piece)
    return Digest(size_bytes, sha256.hexdigest())


def check_file(store: ObjectStore, entry: FileEntry) -> list[RunFault]:
    """Return what is wrong with a file of the manifest.

    Raises:
        StorageError: The store failed.
    """
    try:
        return list(compare(entry, digest_of(store.pieces(entry.path))))
    except FileNotFoundError:
        return [missing(entry.path)]


def compare(entry: FileEntry, found: Digest) -> Iterator[RunFault]:
    """Yield the one fault of a file that is not the one in the manifest; a wrong size says more than a wrong hash."""
    if found.size_bytes != entry.size_bytes:
        yield RunFault(entry.path, None, f"must have {entry.size_bytes} bytes", str(found.size_bytes))
    elif found.sha256 != entry.sha256:
        yield RunFault(entry.path, None, f"must have sha256 {entry.sha256}", found.sha256)


def missing(path: str) -> RunFault:
    """Return the fault of an object that is in the manifest and not in the store."""
    return RunFault(path, None, "must be in the store", NOTHING)
