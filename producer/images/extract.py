"""Images of a run written to a folder as files, each whole or not at all; given again, it fetches what is not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ddim_core.contracts.plan import IMAGES_PER_CHUNK_LIMIT, RunPlan
from ddim_core.contracts.record import Record
from ddim_core.errors import InputError
from ddim_core.storage.reading import at_once
from ddim_core.storage.run_folder import RunFolder
from producer.images.naming import chosen
from producer.images.reading import ChunkImages, batches, rows_of
from producer.images.target import Target, Wish

_BUCKET_READERS = 8
"""Each has a batch of images in memory."""
_PARTS_AHEAD = 16
_FAULTS_KEPT = 20


class Batch(NamedTuple):
    """What became of a few images."""

    written: int = 0
    there: int = 0
    paths: tuple[tuple[Path, Record], ...] = ()
    """Of those that are in the folder now."""
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class Extraction:
    """What a folder holds of a run."""

    folder: Path
    written: int = 0
    there: int = 0
    """Images that were in the folder before."""
    failed: int = 0
    """Images that could not be made, of those that are done."""
    chunks_left: int = 0
    """Of a run that is not finished."""
    fault_count: int = 0
    faults: list[str] = field(default_factory=list)
    """Why images are not in the folder though they were made; the first of them."""

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.written += batch.written
        self.there += batch.there
        self.fault_count += len(batch.faults)
        self.faults += batch.faults[: _FAULTS_KEPT - len(self.faults)]


def extract(
    folder: RunFolder, out: str | Path, wish: Wish | None = None, tell: Callable[[Batch], None] | None = None
) -> Extraction:
    """Write images of a run, finished or not, into a folder; say of each few of them what became of them.

    A file is named after its request and the number of its image there, as with ``--format files``, or after its key
    where the request has no name of its own. Each is compared with the sha256 of its row before it gets its name.

    Raises:
        RunNotFoundError: There is no run.
        InputError: A name names no image that was made. Nothing is written then.
        OutputError: The folder cannot be written to.
        StorageError: The store failed, or a part of the run is damaged.
    """
    wish, plan = wish or Wish(), folder.read_plan()
    choice = chosen(folder, wish.names, wish.by).by_chunk if wish.names else None
    done = folder.committed_chunks()
    extraction = Extraction(folder_for(out), chunks_left=plan.chunk_count - len(done))
    chunks, threads = sorted(done if choice is None else choice), _readers(folder.url)
    with Target(extraction.folder, plan, wish) as target:
        for batch in at_once(_tasks(folder, chunks, choice, target, extraction), threads, threads):
            extraction.add(batch)
            if tell:
                tell(batch)
    return extraction


def folder_for(out: str | Path) -> Path:
    """Return the folder that ``out`` names.

    Raises:
        InputError: It is a URL; files go to a folder here.
    """
    if "://" in str(out):
        raise InputError(f"--out must be a folder on this machine, got {str(out)!r}; to copy a run, copy its folder")
    return Path(out).expanduser().absolute()


def rows_ahead(folder: RunFolder, plan: RunPlan, chunks: Sequence[int]) -> Iterator[list[Record]]:
    """Yield the rows of these chunks, the next few on their way: so many that rows in memory are bounded."""
    ahead = max(2, min(_PARTS_AHEAD, IMAGES_PER_CHUNK_LIMIT // plan.images_per_chunk))
    return at_once((partial(rows_of, folder, chunk) for chunk in chunks), ahead, ahead)


def _tasks(
    folder: RunFolder,
    chunks: Sequence[int],
    choice: dict[int, set[str]] | None,
    target: Target,
    extraction: Extraction,
) -> Iterator[Callable[[], Batch]]:
    for chunk, rows in zip(chunks, rows_ahead(folder, target.plan, chunks), strict=True):
        images = ChunkImages(folder.store, rows)
        if choice is None:
            extraction.failed += len(rows) - len(images.made)
        wanted = [row for row in images.made if choice is None or row.key in choice[chunk]]
        for batch in batches(wanted):
            yield partial(_write, images, batch, target)


def _write(images: ChunkImages, batch: Sequence[Record], target: Target) -> Batch:
    """Write those images of a batch that are not there."""
    there, wanted, faults = [], [], []
    for row in batch:
        state = target.state(row)
        if state == "there":
            there.append(row)
        elif state == "in the way":
            faults.append(f"{target.path(row)} must be free or hold image {row.key}, got another file; see --replace")
        else:
            wanted.append(row)
    written = []
    for record, data, fault in images.read(wanted):
        if data is None:
            faults.append(fault)
        else:
            target.put(record, data)
            written.append(record)
    for row in there:
        target.put_beside(row)
    paths = tuple((target.path(row), row) for row in (*there, *written))
    return Batch(len(written), len(there), paths, tuple(faults))


def _readers(url: str) -> int:
    return len(os.sched_getaffinity(0)) if url.startswith("file:") else _BUCKET_READERS
