"""One attempt at a chunk."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ValidationError

from ddim_core.contracts.plan import ChunkItem, chunk_items
from ddim_core.errors import ChunkDamagedError, InputError, OutputError, StorageError
from ddim_core.storage.run_folder import chunk_path
from workers.chunks.commit import Clock
from workers.chunks.kept import Kept, read_kept
from workers.coordination.run_notes import Tally
from workers.runs import OpenRun

PAUSE_S = 5.0
"""Before a chunk is tried again, times the attempts so far, up to ``MAX_PAUSE_S``."""


MAX_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One worker's try at one chunk."""

    run: OpenRun
    chunk: int
    tally: Tally
    number: int
    clock: Clock = field(default_factory=Clock)

    def items(self) -> list[ChunkItem]:
        """Return the chunk's images, read from the store.

        Raises:
            ChunkDamagedError: The chunk's file is missing or not what it must be.
            StorageError: The store failed, which says nothing of the file.
        """
        try:
            lines = self.run.folder.read_chunk(self.chunk)
            self._check_count(sum(line.image_count for line in lines))  # before a number too large fills the memory
            return list(chunk_items(self.run.plan, self.chunk, lines))
        except OutputError:  # the bucket is gone, or its credentials
            raise
        except (StorageError, InputError) as exc:
            if isinstance(exc, StorageError) and not isinstance(exc.__cause__, FileNotFoundError | ValidationError):
                raise
            raise ChunkDamagedError(str(exc)) from exc

    def kept(self) -> Kept:
        """Return what is good of the chunk already, if its failed images are to be made again.

        Raises:
            StorageError: The store failed.
        """
        return read_kept(self.run.folder, self.chunk) if self.chunk in self.run.commits.ordered else Kept()

    def _check_count(self, count: int) -> None:
        expected = self.run.plan.images_in(self.chunk)
        if count != expected:
            place = f"{self.run.folder.url}/{chunk_path(self.chunk)}"
            raise ChunkDamagedError(f"a chunk must hold {expected} images, got {count} in {place}")

    @property
    def pause_s(self) -> float:
        """How long to leave the chunk alone after this attempt failed."""
        return min(PAUSE_S * self.number, MAX_PAUSE_S)

    def facts(self) -> dict[str, object]:
        """Return what a log record says of the attempt."""
        return {"run": self.run.plan.run_id, "chunk": self.chunk, "attempt": self.number}
