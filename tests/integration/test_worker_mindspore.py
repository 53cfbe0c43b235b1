"""A run on MindSpore: two worker processes on the CPU share it, each with its own cores."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddim_core.checkpoints import describe, digest, resolve
from ddim_core.contracts.plan import ModelRef
from ddim_core.contracts.request import Request
from tests.integration.conftest import RedisServer
from tests.integration.worker_host import Workers, plan_run, send, shard_hashes, shard_members, wait_for

pytestmark = [
    pytest.mark.mindspore,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mindspore") is None, reason="needs the extra 'worker'"),
]


def test_two_processes_share_a_run_and_make_the_same_bytes_as_one(
    redis_server: RedisServer, tmp_path: Path, start_workers: Callable[..., Workers]
) -> None:
    """Whichever process takes a chunk, and with whomever its images share a batch, the shards come out the same."""
    checkpoint = resolve("shapes")
    info = describe(checkpoint)
    model = ModelRef(name="shapes", digest=digest(checkpoint), scheduler=dataclasses.asdict(info.schedule))
    size = {"height": info.default_height, "width": info.default_width}
    requests = [
        Request(prompt=f"a {colour} circle", num_images_per_prompt=3, num_inference_steps=steps, **size)
        for colour, steps in (("red", 4), ("blue", 7), ("green", 5), ("yellow", 6))
    ]
    folders = [
        plan_run(str(tmp_path / name), requests, images_per_chunk=2, model=model, run_id=f"run-{name}")
        for name in ("shared", "alone")
    ]
    workers = start_workers("cpu:2")
    workers.wait_ready(2, timeout_s=180)
    send(redis_server, folders[0])
    wait_for(lambda: folders[0].read_manifest() is not None, 120, workers.text)
    assert {record.device for record in folders[0].records()} == {"cpu:0", "cpu:1"}
    assert {(record.device_kind, record.dtype, record.slots) for record in folders[0].records()} == {
        ("cpu", "float32", 8)
    }
    assert workers.stop() == 0
    alone = start_workers("cpu:1", "--chunks-in-flight", "1")
    send(redis_server, folders[1])
    wait_for(lambda: folders[1].read_manifest() is not None, 180, alone.text)
    assert shard_hashes(folders[0]) == shard_hashes(folders[1])
    for name, data in shard_members(folders[0]).items():
        if name.endswith(".png"):
            with Image.open(io.BytesIO(data)) as image:
                assert image.size == (info.default_width, info.default_height)
                assert np.asarray(image).std() > 5
