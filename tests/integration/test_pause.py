"""Pausing a run stops it within seconds and loses nothing of it; other runs go on, and so does it when told to."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ddim_core.contracts.queue import DEFAULT_QUEUE, RUNS_KEY, RunKeys
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder
from producer import Client
from producer.verify import RunCheck
from tests.integration.fleet_command import FleetCommand
from tests.integration.test_reconciler import Bench, message
from tests.integration.worker_host import Workers, plan_run, send, wait_for
from tools.servers import RedisServer

StartWorkers = Callable[..., Workers]
QUICK, LONG = Request(prompt="a star", num_inference_steps=2), Request(prompt="a moon", num_inference_steps=200)


def test_a_paused_run_is_given_back_and_another_goes_on(
    redis_server: RedisServer, fleet: FleetCommand, start_workers: StartWorkers
) -> None:
    """Its chunks leave the device and the queue; after `continue` it ends as if nothing had been."""
    folder = plan_run(str(fleet.folder / "run"), [QUICK] * 4 + [LONG] * 12, images_per_chunk=4)
    client, keys = Client(redis_server.url), RunKeys(folder.read_plan().run_id)
    workers = start_workers("sim:1:15")
    workers.wait_ready(1)
    send(redis_server, folder, [0])  # alone: beside a long chunk that came to the slots first it would have to wait
    wait_for(lambda: folder.is_committed(0), 60, workers.text)
    client.run(folder.url).resume()
    with redis_server.client() as board:
        wait_for(lambda: board.exists(keys.lease(1)), 60, workers.text)
        done = fleet("pause", "run")
        assert (done.returncode, done.stderr.splitlines()[0]) == (0, f"paused {folder.url}")
        took_s = wait_for(lambda: not board.keys("ddim-fleet:lease:*:[0-9]*"), 60, workers.text)
        wait_for(lambda: board.llen(DEFAULT_QUEUE) == 0, 60, workers.text)
        kept = folder.committed_chunks()
        assert took_s < 10 or len(kept) < 4, "the chunks in hand were made to their end"
        other = plan_run(str(fleet.folder / "other"), [QUICK] * 8)
        client.run(other.url).resume()
        assert client.run(other.url).wait(timeout_s=60).images_made == 8
        assert folder.committed_chunks() == kept and board.llen(DEFAULT_QUEUE) == 0
    status = json.loads(fleet("status", "run", "--broker", redis_server.url, "--json").stdout)
    assert (status["state"], status["chunks_done"]) == ("paused", len(kept))
    assert fleet("continue", "run", "--broker", redis_server.url).stderr == f"going on with {folder.url}\n"
    assert client.run(folder.url).wait(timeout_s=120).images_made == 16
    assert list(RunCheck(folder).faults()) == []


@pytest.fixture
def bench(redis_server: RedisServer) -> Bench:
    """Give the parts of a worker process."""
    return Bench(redis_server)


@pytest.fixture
def folder(bench: Bench, fleet: FleetCommand) -> RunFolder:
    """Give a registered run of four chunks, none of them queued."""
    requests = [Request(prompt="a star", num_inference_steps=1)] * 8
    made = plan_run(str(fleet.folder / "run"), requests, images_per_chunk=2)
    bench.redis.hset(RUNS_KEY, made.read_plan().run_id, made.url)
    return made


def test_a_paused_run_is_not_begun_and_not_queued_again(bench: Bench, folder: RunFolder) -> None:
    """Its messages are dropped, and the reconciler takes none of it for lost; it stays on the list."""
    folder.pause()
    bench.chunks.sample(message(folder, 0))
    for _ in range(3):
        bench.round()
    assert folder.committed_chunks() == set() and bench.queued() == [] and bench.redis.hlen(RUNS_KEY) == 1


def test_workers_go_on_by_themselves_once_the_mark_is_gone(
    bench: Bench, folder: RunFolder, fleet: FleetCommand
) -> None:
    """Whoever takes it away need not reach Redis, as with a run on one machine; the command says so."""
    folder.pause()
    bench.round()
    done = fleet("continue", "run", "--broker", "redis://127.0.0.1:1/0")
    assert done.returncode == 2 and "The run is written; to queue it: ddim-fleet resume" in done.stderr
    assert not folder.is_paused()
    for _ in range(2):
        bench.round()
    assert sorted(bench.queued()) == [0, 1, 2, 3]


def test_a_pause_outlasts_redis(bench: Bench, folder: RunFolder, fleet: FleetCommand) -> None:
    """The mark is in the store: after a loss, workers that know the run list it again and leave it alone."""
    bench.chunks.sample(message(folder, 0))
    folder.pause()
    bench.redis.flushall()
    for _ in range(3):
        bench.round()
    assert bench.queued() == [] and folder.committed_chunks() == {0}
    assert fleet("status", "run", "--broker", bench.server.url).stdout.splitlines()[1].split() == ["state", "paused"]
    assert fleet("continue", "run", "--broker", bench.server.url).returncode == 0
    assert sorted(bench.queued()) == [1, 2, 3]
    assert fleet("continue", "run", "--broker", bench.server.url).stderr.endswith("is not paused\n")


def test_a_finished_or_cancelled_run_cannot_be_paused(bench: Bench, folder: RunFolder, fleet: FleetCommand) -> None:
    """There is nothing left to stop."""
    folder.cancel()
    assert fleet("pause", "run").stderr == f"nothing to pause: {folder.url} is finished or cancelled\n"
    folder.uncancel()
    for chunk in range(4):
        bench.chunks.sample(message(folder, chunk))
    assert folder.read_manifest() is not None
    fleet("pause", "run")
    assert not folder.is_paused()
