"""What the chunks of a run left in the store, read back for its end: in their order, a few at once, a few in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from ddim_core.contracts.manifest import ChunkStats
from ddim_core.contracts.record import SUCCESS
from ddim_core.errors import StorageError
from ddim_core.storage.reading import read_ahead
from ddim_core.storage.run_folder import RunFolder, file_entry, part_path, read_part
from workers.runs import OpenRun

_CHUNKS_AT_ONCE, _ROWS_AT_ONCE = 32, 256
"""What a thread reads at a time: handing over small chunks one by one takes a third of the time."""


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """What became of a chunk."""

    stats: ChunkStats
    """Its totals, with the entry of the part as it lies there."""
    rows: Sequence[Any]
    """Objects with the columns that were asked for, under the names of ``Record``."""


def chunk_ends(run: OpenRun, columns: Sequence[str]) -> Iterator[ChunkEnd]:
    """Return all chunks in their order.

    Raises:
        StorageError: The store failed, or a part is damaged.
    """
    wanted = list(dict.fromkeys(["status", *columns]))  # a column takes as long to read as ten rows
    count = run.plan.chunk_count
    batch = max(1, min(_CHUNKS_AT_ONCE, _ROWS_AT_ONCE // run.plan.images_per_chunk))

    def read(first: int) -> list[ChunkEnd]:
        return [_read(run.folder, chunk, wanted) for chunk in range(first, min(first + batch, count))]

    return chain.from_iterable(read_ahead(read, range(0, count, batch)))


def _read(folder: RunFolder, chunk: int, columns: list[str]) -> ChunkEnd:
    """Where two workers committed one chunk at once, totals and part may be of different ones: the part is right."""
    path = part_path(chunk)
    part, stats = folder.store.get(path), folder.read_stats(chunk)
    try:
        rows = [SimpleNamespace(**row) for row in read_part(part, columns).to_pylist()]
    except (pa.ArrowException, TypeError) as exc:
        raise StorageError(f"{folder.url}/{path} is damaged: {exc}") from exc
    files = (*(entry for entry in stats.files if entry.path != path), file_entry(path, part))
    images = sum(row.status == SUCCESS for row in rows)
    totals = stats.model_copy(update={"files": files, "images": images, "failed": len(rows) - images})
    return ChunkEnd(totals, rows)
