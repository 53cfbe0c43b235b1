"""``manifest.json``: the last thing written, the proof that a run is whole."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from ddim_core.contracts.lean import Lean
from ddim_core.contracts.moment import Moment


class FileEntry(BaseModel):
    """One object of the run, with what a reader needs to know that it is unchanged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size_bytes: int
    sha256: str


class ChunkStats(Lean):
    """``parts/00000_stats.json``: what a chunk came to; the manifest is added up from these."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    added_later: ClassVar[frozenset[str]] = frozenset({"cut"})

    chunk: int
    images: int
    failed: int
    cut: int = 0
    """Images among them whose prompt or negative prompt was cut to what the text encoder takes."""
    attempts: int
    seconds: float
    """Wall time from taking the chunk to committing it."""
    started_at: Moment
    finished_at: Moment
    worker: str
    device: str
    files: tuple[FileEntry, ...]
    """The shard (absent if no image was made) or images, then the part."""


class ManifestTotals(Lean):
    """What a run came to."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    added_later: ClassVar[frozenset[str]] = frozenset({"cut"})

    version: Literal[1] = 1
    run_id: str
    generation: int = 0
    """Of the plan that it holds for: one with more changes is not whole yet."""
    images: int
    failed: int
    cut: int = 0
    """As in the totals of its chunks."""
    chunks: int
    model: str
    model_digest: str
    started_at: Moment
    finished_at: Moment
    seconds: float
    """From the first chunk's start to the last one's commit."""


class Manifest(ManifestTotals):
    """Totals of a run and every file of it, which come last: readers in a hurry take the beginning."""

    files: tuple[FileEntry, ...]
