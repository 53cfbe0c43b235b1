"""A run on MindSpore: two worker processes on the CPU share it, each with its own cores."""

from __future__ import annotations

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
from tests.integration.worker_host import Workers, plan_run, send, shard_members, wait_for
from tools.servers import RedisServer

pytestmark = [
    pytest.mark.mindspore,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mindspore") is None, reason="needs the extra 'worker'"),
]


def test_two_processes_share_a_run_and_an_image_is_the_same_from_either(
    redis_server: RedisServer, tmp_path: Path, start_workers: Callable[..., Workers]
) -> None:
    """Whichever process makes it, and with whomever it shares a batch: equal seeds and settings are equal bytes."""
    checkpoint = resolve("shapes")
    info = describe(checkpoint)
    model = ModelRef(name="shapes", digest=digest(checkpoint), scheduler=info.schedule.to_mapping())
    size = {"height": info.default_height, "width": info.default_width}
    kinds = [
        Request(prompt=f"a {colour} circle", seed=5, num_inference_steps=steps, eta=0.5, **size)
        for colour, steps in (("red", 4), ("blue", 7), ("green", 5))
    ]
    folder = plan_run(str(tmp_path / "run"), kinds * 8, images_per_chunk=2, model=model)
    workers = start_workers("cpu:2")
    workers.wait_ready(2, timeout_s=200)
    send(redis_server, folder)
    wait_for(lambda: folder.read_manifest() is not None, 120, workers.text)
    records = list(folder.records())
    assert {record.device for record in records} == {"cpu:0", "cpu:1"}
    assert {(record.device_kind, record.dtype, record.slots) for record in records} == {("cpu", "float32", 8)}
    hashes = {prompt: {r.sha256 for r in records if r.prompt == prompt} for prompt in {r.prompt for r in records}}
    assert len(records) == 24 and [len(found) for found in hashes.values()] == [1, 1, 1]
    members = shard_members(folder)
    for record in records:
        with Image.open(io.BytesIO(members[f"{record.key}.png"])) as image:
            assert image.size == (info.default_width, info.default_height)
            assert np.asarray(image).std() > 5
    log = workers.text()
    told = [log.index(f"action={action}") for action in ("checkpoint_loading", "size_compiling", "size_ready")]
    assert told == sorted(told)
    assert workers.stop() == 0
