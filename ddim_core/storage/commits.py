"""Which chunks of a run are done: they have a part, and no row of it is still to be made again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ddim_core.contracts.plan import RunPlan
from ddim_core.storage.changes import read_retry_list, retried_path
from ddim_core.storage.run_folder import RunFolder, part_path

_RETRIED = re.compile(r"/(\d{5,})$")


@dataclass(frozen=True, slots=True)
class Commits:
    """Looks at a run's parts with its latest retry order in mind, which is read once: it never changes."""

    folder: RunFolder
    retried_under: str = ""
    """Name of that order; empty where there was none."""
    ordered: Mapping[int, str] = field(default_factory=dict)
    """Chunk -> sha256 of the part that holds the failed rows."""

    @classmethod
    def of(cls, folder: RunFolder, plan: RunPlan) -> Commits:
        """Read the order.

        Raises:
            StorageError: The store failed, or the order is damaged.
        """
        if plan.retry is None:
            return cls(folder)
        return cls(folder, plan.retry.name, read_retry_list(folder.store, plan.retry).parts)

    def chunks(self) -> set[int]:
        """Return the chunks that are done; lists the parts once."""
        return self.folder.committed_chunks() - self._unmade()

    def left(self, chunk_count: int) -> int:
        """Return how many of so many chunks are not done: a number, as a plan that was changed may name any."""
        return chunk_count - sum(chunk < chunk_count for chunk in self.chunks())

    def has(self, chunk: int) -> bool:
        """Return whether a chunk is done; where only the mark of a new part is missing, it is written."""
        if not self.folder.is_committed(chunk):
            return False
        if chunk not in self.ordered or self.folder.store.exists(retried_path(self.retried_under, chunk)):
            return True
        if hashlib.sha256(self.folder.store.get(part_path(chunk))).hexdigest() == self.ordered[chunk]:
            return False
        self.settle(chunk)
        return True

    def settle(self, chunk: int) -> None:
        """Mark a chunk as made again, if that was ordered; its new part has been written."""
        if chunk in self.ordered:
            self.folder.store.put(retried_path(self.retried_under, chunk), b"")

    def _unmade(self) -> set[int]:
        if not self.ordered:
            return set()
        marks = self.folder.store.list(f"retries/{self.retried_under}")
        return self.ordered.keys() - {int(match[1]) for path, _ in marks if (match := _RETRIED.search(path))}
