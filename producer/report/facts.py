"""What a report says of a run as a whole, read from its plan and the totals of its chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ddim_core.contracts.manifest import ChunkStats
from ddim_core.contracts.plan import RunPlan
from ddim_core.storage.run_folder import RunFolder
from ddim_core.version import __version__

State = Literal["complete", "with failures", "unfinished", "cancelled", "paused"]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run as it stood when the report was written."""

    url: str
    plan: RunPlan
    halted: Literal["cancelled", "paused"] | None
    """Which mark keeps workers from the run, if one does."""
    stats: tuple[ChunkStats, ...]
    """Totals of the chunks that are done, in their order, without their files: a folder of images has one for each."""
    edition: str
    """A name for what the report shows; it follows from the parts that are done and the program's version."""

    @property
    def images(self) -> int:
        """Images that were made."""
        return sum(stats.images for stats in self.stats)

    @property
    def failed(self) -> int:
        """Images that could not be made."""
        return sum(stats.failed for stats in self.stats)

    @property
    def cut(self) -> int:
        """Images that were made of prompts of which not all was seen."""
        return sum(stats.cut for stats in self.stats)

    @property
    def state(self) -> State:
        """Whether the run is whole, and if not, why not."""
        if len(self.stats) < self.plan.chunk_count:
            return self.halted or "unfinished"
        return "with failures" if self.failed else "complete"

    @property
    def seconds(self) -> float:
        """From the first chunk's start to the last one's end, as far as there are any."""
        return span_s(self.stats)

    @property
    def images_per_s(self) -> float | None:
        """Images made in each second of the run, or None before anything was."""
        return self.images / self.seconds if self.images and self.seconds else None

    @property
    def as_of(self) -> str:
        """When the last of its chunks was done, or the run planned: the page says the same whenever it is written."""
        return max((stats.finished_at for stats in self.stats), key=moment, default=self.plan.created_at)


def read_facts(folder: RunFolder) -> RunFacts:
    """Read what there is of a run, whether or not it is whole.

    Raises:
        RunNotFoundError: The folder is no run.
        StorageError: The store failed, or a file of the run is damaged.
    """
    plan = folder.read_plan()

    def totals(chunk: int) -> tuple[ChunkStats, str]:
        stats = folder.read_stats(chunk)
        return stats.model_copy(update={"files": ()}), stats.files[-1].sha256 if stats.files else ""

    with ThreadPoolExecutor(8) as pool:  # waiting for the store, not computing
        found = list(pool.map(totals, sorted(folder.committed_chunks())))
    state = "\n".join([__version__, plan.run_id, *(part_sha256 for _, part_sha256 in found)])
    edition = hashlib.sha256(state.encode()).hexdigest()[:16]
    return RunFacts(folder.url, plan, folder.halted(), tuple(stats for stats, _ in found), edition)


def span_s(stats: Iterable[ChunkStats]) -> float:
    """Return the seconds from the first start to the last end of these chunks."""
    spans = [(moment(each.started_at), moment(each.finished_at)) for each in stats]
    if not spans:
        return 0.0
    return (max(end for _, end in spans) - min(start for start, _ in spans)).total_seconds()


def moment(text: str) -> datetime:
    """Return a time of a run's files; Python 3.10 does not read the ``Z`` that ISO 8601 allows."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
