"""Cancelling a run stops it in the middle of a chunk, keeps what is done, and can be taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ddim_core.contracts.queue import DEFAULT_QUEUE, RUNS_KEY, RunKeys
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder, chunk_path
from producer import Client
from producer.verify import RunCheck
from tests.integration.fleet_command import FleetCommand
from tests.integration.worker_host import Workers, plan_run, send, shard_hashes, wait_for
from tests.unit.storage.runs import SmallRun, write_run
from tools.servers import RedisServer

StartWorkers = Callable[..., Workers]
QUICK, SLOW = Request(prompt="a star", num_inference_steps=2), Request(prompt="a moon", num_inference_steps=1000)


def test_a_worker_stops_in_the_middle_of_a_chunk_and_resuming_finishes_the_run(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers, fleet: FleetCommand
) -> None:
    """The quick chunk is kept, slow ones are dropped within seconds, and a resumed run ends as if nothing had been."""
    folder = plan_run(str(tmp_path / "run"), [QUICK] * 8 + [SLOW] * 40)
    keys = RunKeys(folder.read_plan().run_id)
    workers = start_workers("sim:1:20")  # 20 ms a step
    workers.wait_ready(1)
    send(redis_server, folder, [0])  # alone: beside a slow chunk that came to the slots first it would have to wait
    wait_for(lambda: folder.is_committed(0), 60, workers.text)
    send(redis_server, folder, range(1, 6))
    with redis_server.client() as board:
        wait_for(lambda: board.exists(keys.lease(1)), 60, workers.text)
        assert folder.committed_chunks() == {0}
        done = fleet("cancel", folder.url)
        assert (done.returncode, done.stdout) == (0, "")
        assert f"cancelled {folder.url}; 1 of 6 chunks are done and kept\n" in done.stderr
        wait_for(lambda: not board.keys("ddim-fleet:lease:*:[0-9]*"), 60, workers.text)
        wait_for(lambda: board.llen(DEFAULT_QUEUE) == 0, 60, workers.text)
        assert workers.text().count("action=chunk_dropped") >= 1
    assert folder.committed_chunks() == {0}
    shards = shard_hashes(folder)

    status = json.loads(fleet("status", folder.url, "--broker", redis_server.url, "--json").stdout)
    assert (status["state"], status["images_made"], status["chunks_done"]) == ("cancelled", 8, 1)
    watch = fleet("watch", folder.url, "--broker", redis_server.url)
    assert watch.stdout.startswith("cancelled: 8 images made, 0 failed")

    _shorten(folder)
    assert fleet("resume", folder.url, "--broker", redis_server.url).returncode == 0
    assert Client(redis_server.url).run(folder.url).wait(timeout_s=60).images_made == 48
    assert shard_hashes(folder)["shards/00000.tar"] == shards["shards/00000.tar"]
    assert list(RunCheck(folder).faults()) == []


def _shorten(folder: RunFolder) -> None:
    """Give the slow requests few steps, so that a test need not wait for them."""
    for chunk in range(1, 6):
        lines = folder.read_chunk(chunk)
        text = "".join(line.model_dump_json() + "\n" for line in lines)
        folder.store.put(
            chunk_path(chunk), text.replace('"num_inference_steps":1000', '"num_inference_steps":2').encode()
        )


def test_a_cancelled_run_is_not_begun(redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers) -> None:
    """Messages that wait in the queue are dropped as they come; other runs go on."""
    cancelled = plan_run(str(tmp_path / "cancelled"), [QUICK] * 40)
    other = plan_run(str(tmp_path / "other"), [QUICK] * 8)
    send(redis_server, cancelled)
    assert Client(redis_server.url).run(cancelled.url).cancel()
    send(redis_server, other)
    start_workers("sim:1")
    wait_for(lambda: other.read_manifest() is not None, 60)
    with redis_server.client() as board:
        wait_for(lambda: board.llen(DEFAULT_QUEUE) == 0 and not board.exists(RUNS_KEY), 60)
    assert cancelled.committed_chunks() == set()


def test_a_cancelled_run_stays_cancelled_without_redis(fleet: FleetCommand, tmp_path: Path) -> None:
    """The mark is in the store; cancelling twice is cancelling once."""
    folder = write_run(str(tmp_path / "run"), SmallRun(committed=1))
    assert [fleet("cancel", folder.url).returncode for _ in range(2)] == [0, 0]
    status = Client("redis://127.0.0.1:1/0").run(folder.url).status()
    assert (status.state, status.is_over, status.images_made) == ("cancelled", True, 2)


def test_a_finished_run_cannot_be_cancelled(fleet: FleetCommand, tmp_path: Path) -> None:
    """There is nothing to stop, and it must not look unfinished afterwards."""
    folder = write_run(str(tmp_path / "run"), SmallRun())
    done = fleet("cancel", folder.url)
    assert (done.returncode, done.stderr) == (0, f"nothing to cancel: {folder.url} is finished\n")
    assert not folder.is_cancelled()
    assert fleet("cancel", str(tmp_path / "nowhere")).returncode == 1
