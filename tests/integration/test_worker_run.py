"""A run through real Redis, real Celery workers in processes of their own, and a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import file_entry
from tests.integration.conftest import RedisServer
from tests.integration.worker_host import Workers, plan_run, reports, send, shard_members, wait_for

StartWorkers = Callable[..., Workers]


def test_a_run_ends_with_every_image_once_and_a_manifest(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """The whole way: messages, chunks, shards, parts, manifest, and nothing of the run left in Redis."""
    requests = [Request(prompt=f"a star {n}", num_images_per_prompt=5, num_inference_steps=4) for n in range(8)]
    folder = plan_run(str(tmp_path / "run"), requests)
    send(redis_server, folder)
    start_workers("sim:1:2").wait_ready(1)
    took_s = wait_for(lambda: folder.read_manifest() is not None, 30)
    manifest = folder.read_manifest()
    assert manifest is not None and (manifest.images, manifest.failed, manifest.chunks) == (40, 0, 5)
    assert len(list(folder.records())) == 40
    assert len(shard_members(folder)) == 3 * 40
    for entry in manifest.files:
        assert file_entry(entry.path, folder.store.get(entry.path)) == entry
    print("took", took_s)
