"""Adding up a manifest."""

from __future__ import annotations

import random

from ddim_core.contracts.manifest import ChunkStats, FileEntry
from tests.unit.workers.samples import plan
from workers.finish import add_up


def stats(chunk: int) -> ChunkStats:
    """Return the totals of a chunk that began ``chunk`` minutes past the hour and took ten seconds."""
    return ChunkStats(
        chunk=chunk,
        images=3,
        failed=1,
        attempts=1,
        seconds=10.0,
        started_at=f"2026-01-01T00:0{chunk}:00.000+00:00",
        finished_at=f"2026-01-01T00:0{chunk}:10.000+00:00",
        worker="w",
        device="cpu:0",
        files=(FileEntry(path=f"shards/{chunk:05d}.tar", size_bytes=1, sha256="s"),),
    )


def test_a_manifest_adds_up_its_chunks_in_their_order() -> None:
    """Whatever order they are read in: two workers that write it write the same bytes."""
    chunks = [stats(chunk) for chunk in range(5)]
    shuffled = random.Random(0).sample(chunks, 5)
    run = plan(4, chunk_count=5)
    manifest = add_up(run, chunks)
    assert manifest.model_dump_json() == add_up(run, shuffled).model_dump_json()
    assert (manifest.images, manifest.failed, manifest.chunks, manifest.seconds) == (15, 5, 5, 250.0)
    assert [entry.path for entry in manifest.files] == [f"shards/{chunk:05d}.tar" for chunk in range(5)]
    assert (manifest.started_at, manifest.finished_at) == (
        "2026-01-01T00:00:00.000+00:00",
        "2026-01-01T00:04:10.000+00:00",
    )
