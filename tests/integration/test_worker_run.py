"""Runs through real Redis and real Celery workers in processes of their own, with simulated devices and a folder."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from celery import Celery
from PIL import Image

from ddim_core.contracts.queue import (
    FINISH_RUN_TASK,
    RUNS_KEY,
    SAMPLE_CHUNK_TASK,
    WORKERS_PATTERN,
    RunKeys,
    celery_options,
)
from ddim_core.contracts.record import FAILED, SUCCESS
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import file_entry, part_path
from tests.integration.worker_host import (
    PATIENCE_S,
    Workers,
    plan_run,
    reports,
    send,
    shard_hashes,
    shard_members,
    wait_for,
)
from tools.servers import RedisServer

StartWorkers = Callable[..., Workers]


def test_a_run_ends_with_every_image_once_and_a_manifest(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """The whole way: messages, chunks, shards, parts, manifest with true digests, and nothing of it left in Redis."""
    requests = [Request(prompt=f"a star {n}", num_images_per_prompt=5, num_inference_steps=4) for n in range(8)]
    folder = plan_run(str(tmp_path / "run"), requests)
    send(redis_server, folder)
    start_workers("sim:1:2")
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S)
    manifest = folder.read_manifest()
    assert manifest is not None and (manifest.images, manifest.failed, manifest.chunks) == (40, 0, 5)
    assert len({record.key for record in folder.records()}) == 40
    assert len(shard_members(folder)) == 3 * 40
    for entry in manifest.files:
        assert file_entry(entry.path, folder.store.get(entry.path)) == entry
    keys = RunKeys(manifest.run_id)
    with redis_server.client() as client:
        wait_for(lambda: not client.exists(RUNS_KEY, *keys.lasting(), keys.finishing), PATIENCE_S)


def test_two_workers_share_a_run(redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers) -> None:
    """Both devices of a host take chunks, and both report themselves."""
    folder = plan_run(str(tmp_path / "run"), [Request(prompt="a moon", num_images_per_prompt=96)])
    start_workers("sim:2:2").wait_ready(2)
    assert {report.device for report in reports(redis_server)} == {"sim:0", "sim:1"}
    send(redis_server, folder)
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S)
    assert {record.device for record in folder.records()} == {"sim:0", "sim:1"}


def test_an_image_that_fails_alone_is_a_failed_row_and_nothing_else(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """Its neighbours are made, the shard holds no trace of it, and the manifest counts it."""
    requests = [Request(prompt="sim:fail" if n == 2 else f"a sun {n}", num_inference_steps=2) for n in range(5)]
    folder = plan_run(str(tmp_path / "run"), requests)
    send(redis_server, folder)
    start_workers("sim:1")
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S)
    rows = list(folder.records())
    assert [row.status for row in rows] == [SUCCESS, SUCCESS, FAILED, SUCCESS, SUCCESS]
    assert (rows[2].error_class, rows[2].path) == ("SampleError", None)
    assert not any(name.startswith(rows[2].key) for name in shard_members(folder))
    manifest = folder.read_manifest()
    assert manifest is not None and (manifest.images, manifest.failed) == (4, 1)


def test_a_chunk_without_any_image_writes_no_shard(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """Readers stumble over an empty tar."""
    folder = plan_run(str(tmp_path / "run"), [Request(prompt="sim:fail", num_inference_steps=1)])
    send(redis_server, folder)
    start_workers("sim:1")
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S)
    assert list(folder.store.list("shards")) == []


def test_images_of_an_imagefolder_are_files_with_their_metadata(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """What Hugging Face's imagefolder loader needs: pictures, and a row with file name and text for each."""
    requests = [Request(prompt=f"a ring {n}", num_inference_steps=2) for n in range(9)]
    folder = plan_run(str(tmp_path / "run"), [*requests, Request(prompt="sim:fail")], container="imagefolder")
    send(redis_server, folder)
    start_workers("sim:1")
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S)
    rows = pq.read_table(io.BytesIO(folder.store.get("images/metadata.parquet"))).to_pylist()
    assert [row["text"] for row in rows] == [f"a ring {n}" for n in range(9)]
    for row in rows:
        with Image.open(io.BytesIO(folder.store.get(f"images/{row['file_name']}"))) as image:
            assert (image.size, image.mode) == ((32, 32), "RGB")
    manifest = folder.read_manifest()
    assert manifest is not None and "images/metadata.parquet" in {entry.path for entry in manifest.files}


def test_a_committed_chunk_that_is_delivered_again_is_left_alone(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """Redelivery happens; it must cost a look at the store and change nothing."""
    folder = plan_run(str(tmp_path / "run"), [Request(prompt="a cross", num_images_per_prompt=16)])
    workers = start_workers("sim:1")
    send(redis_server, folder, [0])
    wait_for(lambda: folder.is_committed(0), PATIENCE_S)
    part, shards = folder.store.get(part_path(0)), shard_hashes(folder)
    send(redis_server, folder, [0, 0, 1])
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S)
    assert folder.store.get(part_path(0)) == part
    assert shard_hashes(folder)["shards/00000.tar"] == shards["shards/00000.tar"]
    assert workers.text().count("action=chunk_committed") == 2


def test_what_is_no_message_is_dropped_and_the_worker_goes_on(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """Anything may be pushed to a Redis list; none of it may end a worker or come back."""
    folder = plan_run(str(tmp_path / "run"), [Request(prompt="a heart")])
    workers = start_workers("sim:1")
    workers.wait_ready(1)
    with redis_server.client() as client:
        for item in ("no json", "\xff", "[]", "{}", '{"body": "", "headers": {}, "properties": {}}', _envelope("{")):
            client.lpush("ddim-fleet", item)
    _send_invalid(redis_server)
    send(redis_server, folder)
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S, workers.text)
    assert workers.text().count(" is ready, pid ") == 1
    with redis_server.client() as client:
        assert client.llen("ddim-fleet") == 0
        wait_for(lambda: client.hlen("unacked") == 0, PATIENCE_S)
        assert len(list(client.scan_iter(WORKERS_PATTERN))) == 1


def _envelope(body: str) -> str:
    """Return a message whose envelope is kombu's and whose body is ``body``."""
    properties = {
        "delivery_info": {"exchange": "", "routing_key": "ddim-fleet"},
        "delivery_tag": "tag",
        "body_encoding": "base64",
        "correlation_id": "c",
    }
    headers = {"task": SAMPLE_CHUNK_TASK, "id": "c", "lang": "py", "argsrepr": "", "kwargsrepr": ""}
    message = {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": properties,
    }
    return json.dumps(message)


def _send_invalid(server: RedisServer) -> None:
    """Queue tasks that Celery takes and whose arguments are wrong, and one that nobody knows."""
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_options(server.url))
    app.send_task(SAMPLE_CHUNK_TASK, kwargs={"run_url": "/tmp", "chunk": -1})
    app.send_task(SAMPLE_CHUNK_TASK, args=[1, 2, 3])
    app.send_task(FINISH_RUN_TASK, kwargs={"run_url": "no-such-scheme://x", "run_id": "0123456789"})
    app.send_task(SAMPLE_CHUNK_TASK, kwargs={"run_url": "file:///nowhere/run", "run_id": "0123456789", "chunk": 0})
    app.send_task("somebody.elses_task")
    app.close()
