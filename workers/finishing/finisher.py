"""The end of a run: its manifest, added up from what the chunks left in the store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from ddim_core.contracts.manifest import ChunkStats, FileEntry, ManifestTotals
from ddim_core.contracts.plan import RunPlan
from ddim_core.storage.manifest_file import FileList
from ddim_core.storage.run_folder import MANIFEST, RunFolder, file_entry
from workers.coordination.connection import Board
from workers.coordination.leases import Leases
from workers.coordination.run_notes import Tally
from workers.finishing.croissant import CROISSANT, LISTED_LIMIT, croissant, is_listed
from workers.finishing.dataset_card import CARD, dataset_card
from workers.finishing.dataset_facts import COLUMNS, DatasetFacts
from workers.finishing.gather import chunk_ends
from workers.finishing.metadata import MetadataTable
from workers.finishing.results import ResultLines
from workers.runs import OpenRun, Runs

log = logging.getLogger(__name__)


class RowFile(Protocol):
    """A file that is made from a run's rows when the run ends, and that its manifest lists."""

    @property
    def columns(self) -> Sequence[str]:
        """Of the rows, as few as will do: each costs a large run seconds."""
        ...

    def add(self, row: Any) -> None:
        """Take in the next row, an object with these columns; rows come in the order of their keys, failed ones too."""
        ...

    def write(self, folder: RunFolder) -> list[FileEntry]:
        """Write the file, and return its entry; nothing if there is no need of it."""
        ...


def row_files(plan: RunPlan) -> list[RowFile]:
    """Return what a run of this plan ends with, beside its card."""
    files: list[RowFile] = [MetadataTable()] if plan.container == "imagefolder" else []
    return [*files, ResultLines(plan)] if plan.results else files


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
            run = run.again()
            whole = run.folder.read_totals(run.plan) is not None or self._write(run)
            if whole and self._is_current(run):
                tally.forget()
                self._runs.forget(run.folder.url, run.plan.run_id)
                return True
            return False
        finally:
            self._leases.release(tally.keys.finishing)

    def _write(self, run: OpenRun) -> bool:
        missing = run.commits.left(run.plan.chunk_count)
        if missing:
            log.info(
                "a run is not whole yet",
                extra={"action": "run_incomplete", "run": run.plan.run_id, "missing": missing},
            )
            return False
        contents = Contents()
        files = row_files(run.plan)
        for end in chunk_ends(run, [*COLUMNS, *(column for file in files for column in file.columns)]):
            contents.add(end.stats, end.rows)
            for row in end.rows:
                for file in files:
                    file.add(row)
        written = [entry for file in files for entry in file.write(run.folder)]
        totals = contents.totals(run.plan)
        contents.files.extend([*written, *_write_card(run, contents, written)])
        if not self._is_current(run):  # adding up a large run takes minutes
            return False
        run.folder.store.put(MANIFEST, contents.files.manifest(totals))
        log.info(
            "a run is whole",
            extra={"action": "run_finished", "run": run.plan.run_id, "images": totals.images, "failed": totals.failed},
        )
        return True

    def _is_current(self, run: OpenRun) -> bool:
        """Return whether nothing was added to the run meanwhile; if so, have the reconciler look after it again."""
        if run.again() is run:
            return True
        Tally(self._board, run.plan.run_id).register(run.folder.url)
        return False


@dataclass(slots=True)
class Contents:
    """What a run turned out to hold; of its chunks, only sums are kept."""

    chunks: int = 0
    images: int = 0
    failed: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    facts: DatasetFacts = field(default_factory=DatasetFacts)
    files: FileList = field(default_factory=FileList)
    described: list[FileEntry] = field(default_factory=list)
    """Files of the chunks that the card for machines may list, no more than make it leave them out."""

    def add(self, stats: ChunkStats, rows: Iterable[Any] = ()) -> None:
        """Take one more chunk in; they come in their order."""
        started, finished = datetime.fromisoformat(stats.started_at), datetime.fromisoformat(stats.finished_at)
        self.started_at = min(self.started_at or started, started)
        self.finished_at = max(self.finished_at or finished, finished)
        self.chunks += 1
        self.images += stats.images
        self.failed += stats.failed
        self.files.extend(stats.files)
        if len(self.described) <= LISTED_LIMIT:
            self.described.extend(filter(is_listed, stats.files))
        for row in rows:
            self.facts.add(row)

    def totals(self, plan: RunPlan) -> ManifestTotals:
        """Return what the run came to; nothing in it depends on when or by whom it is added up."""
        assert self.started_at is not None and self.finished_at is not None
        return ManifestTotals(
            run_id=plan.run_id,
            generation=plan.generation,
            images=self.images,
            failed=self.failed,
            cut=self.facts.cut,
            chunks=self.chunks,
            model=plan.model.name,
            model_digest=plan.model.digest,
            started_at=self.started_at.isoformat(timespec="milliseconds"),
            finished_at=self.finished_at.isoformat(timespec="milliseconds"),
            seconds=round((self.finished_at - self.started_at).total_seconds(), 3),
        )


def _write_card(run: OpenRun, contents: Contents, beside: Iterable[FileEntry]) -> Iterator[FileEntry]:
    """Write what makes the run a dataset that others can load, and yield the entries of it."""
    described = croissant(run.plan, contents.facts.images, [*contents.described, *beside])
    for path, data in {CARD: dataset_card(run.plan, contents.facts), CROISSANT: described}.items():
        if _is_free(run, path):
            run.folder.store.put(path, data)
            yield file_entry(path, data)


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
