"""The whole path with real MindSpore: one command, and a queue with two workers on S3, make the same bytes."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from ddim_core.contracts.record import SUCCESS
from ddim_core.storage.run_folder import RunFolder
from tests.integration.fleet_command import started
from tests.integration.worker_host import Workers

pytestmark = pytest.mark.mindspore

REQUESTS = (
    {"prompt": "a large red circle on a white background", "num_inference_steps": 4, "num_images_per_prompt": 5},
    {"prompt": "a small blue star at the top on a grey background", "num_inference_steps": 7, "seed": 3, "eta": 1.0},
    {"prompt": "a green square", "num_inference_steps": 5, "guidance_scale": 1.0, "num_images_per_prompt": 4},
    {"prompt": "a large pink ring", "num_inference_steps": 6, "guidance_rescale": 0.7, "num_images_per_prompt": 2},
)
IMAGES = 12


def images_of(folder: RunFolder) -> dict[tuple[str, int], bytes]:
    """Return the PNG bytes of every image by its request and number, wherever the run keeps them."""
    found = {}
    for record in folder.records():
        assert record.status == SUCCESS and record.path is not None
        data = folder.store.get(record.path)
        if record.path.endswith(".tar"):
            with tarfile.open(fileobj=io.BytesIO(data)) as shard:
                member = shard.extractfile(f"{record.key}.png")
                assert member is not None
                data = member.read()
        found[record.custom_id, record.image] = data
    return found


def test_a_run_here_and_a_run_of_two_workers_on_s3_make_the_same_bytes(
    tmp_path: Path, redis_url: str, s3_url: str
) -> None:
    """Neither the store, the queue, chunks, format, processes nor CPU threads change an image.

    The rows alone are enough to make some of them once more.
    """
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(request) + "\n" for request in REQUESTS))
    here = started(tmp_path, "run", "prompts.jsonl", "--out", "here", "--devices", "cpu:1", "--format", "imagefolder")
    _, err = here.communicate(timeout=280)
    assert here.returncode == 0, err

    workers = Workers(redis_url, "cpu:2", tmp_path / "workers.log")
    try:
        workers.wait_ready(2, timeout_s=240)
        options = ("--broker", redis_url, "--images-per-chunk", "2")
        submit = started(tmp_path, "submit", "prompts.jsonl", "--out", f"{s3_url}/run", *options)
        _, err = submit.communicate(timeout=60)
        assert submit.returncode == 0, err
        watch = started(tmp_path, "watch", f"{s3_url}/run", "--broker", redis_url)
        _, err = watch.communicate(timeout=200)
        assert watch.returncode == 0, err + workers.text()
    finally:
        workers.stop()

    on_s3 = RunFolder(f"{s3_url}/run")
    assert len({record.worker for record in on_s3.records()}) == 2
    expected = images_of(RunFolder(str(tmp_path / "here")))
    assert len(expected) == IMAGES
    assert len(set(expected.values())) == IMAGES
    assert images_of(on_s3) == expected

    options = ("--replay", "4", "--replay-seed", "1", "--devices", "cpu:1")
    replay = started(tmp_path, "verify", f"{s3_url}/run", *options)
    out, err = replay.communicate(timeout=240)
    assert replay.returncode == 0, out + err
    assert out.count(": same bytes\n") == 4, out
