"""Runs in a folder, as far along as a test wants them."""

from __future__ import annotations

from pathlib import Path

from ddim_core.contracts.manifest import ChunkStats, Manifest
from ddim_core.contracts.plan import ModelRef, RunPlan
from ddim_core.storage.run_folder import RunFolder, part_path, stats_path

RUN_ID = "20260101-000000-00000000"


def written_run(path: Path, images: int = 10, images_per_chunk: int = 4) -> RunFolder:
    """Return a run of which nothing is done."""
    folder = RunFolder(str(path))
    plan = RunPlan(
        run_id=RUN_ID,
        created_at="2026-01-01T00:00:00+00:00",
        model=ModelRef(name="shapes", digest="sha256:0", scheduler={}),
        request_count=images,
        image_count=images,
        chunk_count=-(-images // images_per_chunk),
        images_per_chunk=images_per_chunk,
        requests_digest="sha256:0",
    )
    folder.write_plan(plan)
    return folder


def commit(folder: RunFolder, chunk: int, made: int, failed: int = 0) -> None:
    """Mark a chunk as done."""
    stats = ChunkStats(
        chunk=chunk,
        images=made,
        failed=failed,
        attempts=1,
        seconds=1.0,
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:00:00+00:00",
        worker="w",
        device="sim:0",
        files=(),
    )
    folder.store.put(stats_path(chunk), stats.model_dump_json().encode())
    folder.store.put(part_path(chunk), b"")


def finish(folder: RunFolder, made: int, failed: int = 0, seconds: float = 5.0) -> None:
    """Write the manifest."""
    plan = folder.read_plan()
    manifest = Manifest(
        run_id=plan.run_id,
        images=made,
        failed=failed,
        chunks=plan.chunk_count,
        model="shapes",
        model_digest="sha256:0",
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:00:00+00:00",
        seconds=seconds,
        files=(),
    )
    folder.write_manifest(manifest)
