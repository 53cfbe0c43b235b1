"""The end of a run: its manifest, added up from what the chunks left in the store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from ddim_core.contracts.manifest import ChunkStats, FileEntry, Manifest
from ddim_core.contracts.plan import Container, RunPlan
from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.errors import StorageError
from ddim_core.storage.run_folder import RunFolder, decode_part, file_entry, part_path
from workers.board import Board
from workers.croissant import CROISSANT, croissant
from workers.dataset_card import CARD, dataset_card
from workers.dataset_facts import DatasetFacts
from workers.encode import encode_lines
from workers.lease import Leases
from workers.runs import OpenRun, Runs
from workers.tally import Tally

log = logging.getLogger(__name__)

METADATA = "images/metadata.jsonl"
"""Beside the images, where Hugging Face's imagefolder loader looks for it."""
READERS = 16
"""Small objects read at once: a store's delay, not its bandwidth, sets the pace."""


class Finisher:
    """Writes manifests. Two workers at one manifest write the same bytes, so its lease only saves work."""

    def __init__(self, board: Board, leases: Leases, runs: Runs) -> None:
        """Take leases from ``leases`` and forget finished runs in ``runs``."""
        self._board = board
        self._leases = leases
        self._runs = runs

    def finish(self, run: OpenRun) -> bool:
        """Write the manifest if every chunk is committed; return whether the run is whole.

        Raises:
            RunNotFoundError: The run is no longer there.
            StorageError: The store failed; the reconciler will ask again.
        """
        tally = Tally(self._board, run.plan.run_id)
        if not self._leases.take(tally.keys.finishing):
            return False
        try:
            whole = run.folder.read_manifest() is not None or self._write(run)
            if whole:
                tally.forget()
                self._runs.forget(run.folder.url, run.plan.run_id)
            return whole
        finally:
            self._leases.release(tally.keys.finishing)

    def _write(self, run: OpenRun) -> bool:
        run.confirm()
        missing = set(range(run.plan.chunk_count)) - run.folder.committed_chunks()
        if missing:
            log.info(
                "a run is not whole yet",
                extra={"action": "run_incomplete", "run": run.plan.run_id, "missing": len(missing)},
            )
            return False
        contents = Contents(run.plan.container)
        with ThreadPoolExecutor(READERS, thread_name_prefix="finish") as readers:
            for stats, records in _chunks(run, readers):
                contents.add(stats, records)
        manifest = add_up(run.plan, contents.stats, _write_card(run, contents))
        run.confirm()  # adding up a large run takes minutes
        run.folder.write_manifest(manifest)
        log.info(
            "a run is whole",
            extra={
                "action": "run_finished",
                "run": run.plan.run_id,
                "images": manifest.images,
                "failed": manifest.failed,
            },
        )
        return True


def add_up(plan: RunPlan, stats: Iterable[ChunkStats], extra: Iterable[FileEntry] = ()) -> Manifest:
    """Return the manifest of a run with these chunks; it holds nothing that depends on when or by whom it is made."""
    totals = sorted(stats, key=lambda chunk: chunk.chunk)
    started = min(datetime.fromisoformat(chunk.started_at) for chunk in totals)
    finished = max(datetime.fromisoformat(chunk.finished_at) for chunk in totals)
    return Manifest(
        run_id=plan.run_id,
        images=sum(chunk.images for chunk in totals),
        failed=sum(chunk.failed for chunk in totals),
        chunks=len(totals),
        model=plan.model.name,
        model_digest=plan.model.digest,
        started_at=started.isoformat(timespec="milliseconds"),
        finished_at=finished.isoformat(timespec="milliseconds"),
        seconds=round((finished - started).total_seconds(), 3),
        files=(*(entry for chunk in totals for entry in chunk.files), *extra),
    )


@dataclass(slots=True)
class Contents:
    """What a run turned out to hold, chunk by chunk."""

    container: Container
    stats: list[ChunkStats] = field(default_factory=list)
    facts: DatasetFacts = field(default_factory=DatasetFacts)
    lines: bytearray = field(default_factory=bytearray)
    """What ``METADATA`` will say of the images, where they are files."""

    def add(self, stats: ChunkStats, records: Iterable[Record]) -> None:
        """Take one more chunk in; they come in their order."""
        self.stats.append(stats)
        for record in records:
            self.facts.add(record)
            if record.status == SUCCESS and self.container == "imagefolder":
                self.lines += encode_lines([_metadata_row(record)])


def _chunks(run: OpenRun, readers: ThreadPoolExecutor) -> Iterator[tuple[ChunkStats, list[Record]]]:
    """Yield totals and rows of all chunks in their order, with no more than ``READERS`` of them in memory."""
    for first in range(0, run.plan.chunk_count, READERS):
        chunks = range(first, min(first + READERS, run.plan.chunk_count))
        yield from readers.map(lambda chunk: _read_chunk(run.folder, chunk), chunks)


def _read_chunk(folder: RunFolder, chunk: int) -> tuple[ChunkStats, list[Record]]:
    """Return a chunk's totals, with the entry of the part as it lies there, and its rows.

    Where two workers committed one chunk at once, totals and part may be of different ones: same images, other seconds.
    """
    path = part_path(chunk)
    part, stats = folder.store.get(path), folder.read_stats(chunk)
    try:
        records = decode_part(part)
    except (pa.ArrowException, TypeError) as exc:
        raise StorageError(f"{folder.url}/{path} is damaged: {exc}") from exc
    files = (*(entry for entry in stats.files if entry.path != path), file_entry(path, part))
    images = sum(record.status == SUCCESS for record in records)
    return stats.model_copy(update={"files": files, "images": images, "failed": len(records) - images}), records


def _write_card(run: OpenRun, contents: Contents) -> list[FileEntry]:
    """Write what makes the run a dataset that others can load, and return the entries of it."""
    entries = []
    if run.plan.container == "imagefolder":
        metadata = bytes(contents.lines)
        run.folder.store.put(METADATA, metadata)
        entries.append(file_entry(METADATA, metadata))
    files = [entry for each in contents.stats for entry in each.files]
    described = croissant(run.plan, contents.facts.images, [*files, *entries])
    for path, data in {CARD: dataset_card(run.plan, contents.facts), CROISSANT: described}.items():
        if _is_free(run, path):
            run.folder.store.put(path, data)
            entries.append(file_entry(path, data))
    return entries


def _is_free(run: OpenRun, path: str) -> bool:
    """Return whether the card may be written: people make runs in folders that have a README of their own."""
    try:
        free = run.plan.run_id.encode() in run.folder.store.get(path)  # both cards name their run
    except FileNotFoundError:
        return True
    if not free:
        log.warning(
            "a file that is not this run's is left as it is",
            extra={"action": "card_not_written", "run": run.plan.run_id, "path": path},
        )
    return free


def _metadata_row(record: Record) -> dict[str, Any]:
    return {
        "file_name": f"{record.key}.{record.format}",
        "text": record.prompt,
        "negative_prompt": record.negative_prompt,
        "custom_id": record.custom_id,
        "seed": record.seed,
        "num_inference_steps": record.num_inference_steps,
        "guidance_scale": record.guidance_scale,
        "eta": record.eta,
    }
