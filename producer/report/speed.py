"""How fast a run was: by worker, by chunk, and as a picture of who worked when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ddim_core.contracts.manifest import ChunkStats
from producer.report.facts import moment, span_s

MAX_BARS = 2000
MAX_ROWS = 64


@dataclass(frozen=True, slots=True)
class WorkerSpeed:
    """What one worker process did on its device."""

    worker: str
    device: str
    chunks: int
    images: int
    failed: int
    images_per_s: float | None
    """Over the time from its first chunk's start to its last one's end, since chunks overlap."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One chunk in the timeline; lengths are fractions of the run's time."""

    row: int
    place: int
    """Which chunk of its worker this is, from 0; neighbours are drawn apart, since they overlap."""
    start: float
    length: float
    title: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Who worked when: one row a worker, one bar a chunk."""

    workers: tuple[str, ...]
    bars: tuple[Bar, ...]
    seconds: float


def worker_speeds(stats: Sequence[ChunkStats]) -> list[WorkerSpeed]:
    """Return the workers in the order of their names."""
    chunks_of: dict[tuple[str, str], list[ChunkStats]] = defaultdict(list)
    for each in stats:
        chunks_of[each.worker, each.device].append(each)
    return [_worker_speed(worker, device, chunks) for (worker, device), chunks in sorted(chunks_of.items())]


def timeline(stats: Sequence[ChunkStats]) -> Timeline | None:
    """Return the timeline, or None where it would show nothing or could not be read."""
    seconds = span_s(stats)
    workers = tuple(sorted({each.worker for each in stats}))
    if not seconds or len(stats) > MAX_BARS or len(workers) > MAX_ROWS:
        return None
    begin = min(moment(each.started_at) for each in stats)
    bars: list[Bar] = []
    places = dict.fromkeys(workers, 0)
    for each in stats:
        start = (moment(each.started_at) - begin).total_seconds()
        length = (moment(each.finished_at) - moment(each.started_at)).total_seconds()
        title = f"chunk {each.chunk} on {each.worker}: {each.images} images in {each.seconds:.1f} s"
        bars.append(Bar(workers.index(each.worker), places[each.worker], start / seconds, length / seconds, title))
        places[each.worker] += 1
    return Timeline(workers, tuple(bars), seconds)


def _worker_speed(worker: str, device: str, chunks: Sequence[ChunkStats]) -> WorkerSpeed:
    images, seconds = sum(each.images for each in chunks), span_s(chunks)
    return WorkerSpeed(
        worker=worker,
        device=device,
        chunks=len(chunks),
        images=images,
        failed=sum(each.failed for each in chunks),
        images_per_s=images / seconds if images and seconds else None,
    )
