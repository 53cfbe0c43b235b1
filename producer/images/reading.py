"""A chunk's images a few at a time: from its shard or from files, each compared with its row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.errors import StorageError
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import RunFolder
from producer.images.shard import Shard

BATCH_BYTES = 8 << 20
"""Of images that one thread reads at a time; a larger image is alone."""
_BATCH_IMAGES = 64


class Found(NamedTuple):
    """An image's row, and its file's bytes, or in words why there are none."""

    record: Record
    data: bytes | None
    fault: str = ""


class ChunkImages:
    """The images of one chunk; threads may read batches of it at once."""

    def __init__(self, store: ObjectStore, rows: Sequence[Record]) -> None:
        """Take all rows of the chunk, of which those of images that were made are heeded."""
        self._store = store
        self.made = [row for row in rows if row.status == SUCCESS]
        path = next((row.path for row in self.made if row.path is not None and row.path.endswith(".tar")), "")
        inside = [row for row in self.made if row.path == path]
        self._shard = Shard(store, path, inside)
        self._places = {row.key: place for place, row in enumerate(inside)}

    def read(self, batch: Sequence[Record]) -> Iterator[Found]:
        """Yield the images of some of the rows that were ``made``, in their order.

        Raises:
            StorageError: The store failed, which says nothing of the run.
        """
        for inside, rows in groupby(batch, lambda row: row.key in self._places):
            if inside:
                yield from self._members(list(rows))
            else:
                yield from map(self._file, rows)

    def _file(self, row: Record) -> Found:
        try:
            data = self._store.get(row.path or "")
        except FileNotFoundError:
            return _missing(row)
        return Found(row, data) if hashlib.sha256(data).hexdigest() == row.sha256 else _damaged(row)

    def _members(self, rows: Sequence[Record]) -> Iterator[Found]:
        left = {self._places[row.key]: row for row in rows}
        try:
            for place, data in self._shard.read(sorted(left)):
                row = left.pop(place)
                yield _damaged(row) if data is None else Found(row, data)
        except FileNotFoundError:
            yield from map(_missing, left.values())


def rows_of(folder: RunFolder, chunk: int) -> list[Record]:
    """Return the rows of a chunk that is done.

    Raises:
        StorageError: The store failed, the part is damaged, or it is gone since the chunks were listed.
    """
    try:
        return folder.read_records(chunk)
    except FileNotFoundError as exc:
        raise StorageError(f"a part must stay while its run is read, but {exc} is gone; try again") from exc


def batches(rows: Sequence[Record]) -> Iterator[list[Record]]:
    """Yield what one thread shall read at a time of these rows."""
    batch: list[Record] = []
    size_bytes = 0
    for row in rows:
        size_bytes += row.size_bytes or 0
        if batch and (size_bytes > BATCH_BYTES or len(batch) == _BATCH_IMAGES):
            yield batch
            batch, size_bytes = [], row.size_bytes or 0
        batch.append(row)
    if batch:
        yield batch


def _missing(row: Record) -> Found:
    return Found(row, None, f"image {row.key} must be in {row.path}, got nothing")


def _damaged(row: Record) -> Found:
    return Found(row, None, f"image {row.key} must be in {row.path} with sha256 {row.sha256}, got no such bytes")
