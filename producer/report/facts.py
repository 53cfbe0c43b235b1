"""What a report says of a run as a whole, read from its plan, its manifest and the totals of its chunks."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ddim_core.contracts.manifest import ChunkStats, Manifest
from ddim_core.contracts.plan import RunPlan
from ddim_core.storage.run_folder import RunFolder

State = Literal["complete", "with failures", "unfinished", "cancelled"]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run as it stood when the report was written."""

    url: str
    plan: RunPlan
    manifest: Manifest | None
    cancelled: bool
    stats: tuple[ChunkStats, ...]
    """Totals of the chunks that are done, in their order."""

    @property
    def images(self) -> int:
        """Images that were made."""
        return sum(stats.images for stats in self.stats)

    @property
    def failed(self) -> int:
        """Images that could not be made."""
        return sum(stats.failed for stats in self.stats)

    @property
    def state(self) -> State:
        """Whether the run is whole, and if not, why not."""
        if len(self.stats) < self.plan.chunk_count:
            return "cancelled" if self.cancelled else "unfinished"
        return "with failures" if self.failed else "complete"

    @property
    def seconds(self) -> float:
        """From the first chunk's start to the last one's end, as far as there are any."""
        return span_s(self.stats)

    @property
    def images_per_s(self) -> float | None:
        """Images made in each second of the run, or None before anything was."""
        return self.images / self.seconds if self.images and self.seconds else None


def read_facts(folder: RunFolder) -> RunFacts:
    """Read what there is of a run, whether or not it is whole.

    Raises:
        RunNotFoundError: The folder is no run.
        StorageError: The store failed, or a file of the run is damaged.
    """
    plan = folder.read_plan()
    with ThreadPoolExecutor(8) as pool:  # waiting for the store, not computing
        stats = tuple(pool.map(folder.read_stats, sorted(folder.committed_chunks())))
    return RunFacts(folder.url, plan, folder.read_manifest(), folder.is_cancelled(), stats)


def span_s(stats: Iterable[ChunkStats]) -> float:
    """Return the seconds from the first start to the last end of these chunks."""
    spans = [(moment(each.started_at), moment(each.finished_at)) for each in stats]
    if not spans:
        return 0.0
    return (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()


def moment(text: str) -> datetime:
    """Return a time of a run's files; Python 3.10 does not read the ``Z`` that ISO 8601 allows."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
