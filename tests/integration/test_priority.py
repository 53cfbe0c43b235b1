"""A run of higher priority is made first, however many chunks of others wait."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ddim_core.contracts.plan import Priority
from ddim_core.contracts.queue import DEFAULT_QUEUE, RUNS_KEY, queue_of, queues_of
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder
from producer import Client
from tests.integration.fleet_command import FleetCommand
from tests.integration.test_reconciler import Bench
from tests.integration.worker_host import Workers, plan_run
from tools.servers import RedisServer
from workers.coordination.queue_view import QueueView

StartWorkers = Callable[..., Workers]


def queued_run(server: RedisServer, path: Path, priority: Priority, chunks: int) -> RunFolder:
    """Return a run of this priority whose chunks are queued."""
    requests = [Request(prompt="a star", num_inference_steps=1, seed=1)] * chunks
    folder = plan_run(str(path), requests, images_per_chunk=1, priority=priority)
    Client(server.url).run(folder.url).resume()
    return folder


def test_chunks_of_higher_priority_are_taken_next(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """Queued last, made first: one worker empties the queues in their order."""
    low = queued_run(redis_server, tmp_path / "low", "low", 12)
    normal = queued_run(redis_server, tmp_path / "normal", "normal", 12)
    high = queued_run(redis_server, tmp_path / "high", "high", 12)
    workers = start_workers("sim:1:5", "--log-level", "info")
    client = Client(redis_server.url)
    for folder in (low, normal, high):
        assert client.run(folder.url).wait(timeout_s=60).images_made == 12
    order = [match[1] for match in re.finditer(r"action=chunk_committed.* run=(\S+)", workers.text())]
    assert len(order) == 36
    # Two chunks are in flight at a time, so that neighbours may change places.
    assert set(order[:10]) == {high.read_plan().run_id} and set(order[-10:]) == {low.read_plan().run_id}


def test_a_lost_chunk_is_queued_again_under_its_priority(redis_server: RedisServer, tmp_path: Path) -> None:
    """The reconciler looks at all queues, and puts back where it was taken from."""
    bench = Bench(redis_server)
    high = queued_run(redis_server, tmp_path / "high", "high", 3)
    low = queued_run(redis_server, tmp_path / "low", "low", 2)
    view = QueueView(bench.board, DEFAULT_QUEUE)
    ids = {folder.read_plan().run_id: folder for folder in (high, low)}
    assert {(ids[run_id], chunk) for run_id, chunk in view.queued() or ()} == {
        *((high, chunk) for chunk in range(3)),
        *((low, chunk) for chunk in range(2)),
    }
    bench.redis.delete(*queues_of(DEFAULT_QUEUE))
    assert bench.redis.hlen(RUNS_KEY) == 2
    for _ in range(3):
        bench.round()
    lengths = {priority: bench.redis.llen(queue_of(DEFAULT_QUEUE, priority)) for priority in ("low", "normal", "high")}
    assert lengths == {"low": 2, "normal": 0, "high": 3}
    bench.close()


def test_priority_is_given_with_the_run(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan keeps it, so that whoever queues the run again does so under it; the same requests are the same run."""
    monkeypatch.chdir(tmp_path)
    fleet = FleetCommand(tmp_path, capsys)
    fleet.write("prompts.txt", "a star\n")
    done = fleet("submit", "prompts.txt", "--out", "run", "--priority", "high", "--broker", redis_server.url)
    assert done.returncode == 0 and RunFolder(str(tmp_path / "run")).read_plan().priority == "high"
    with redis_server.client() as board:
        assert board.llen(queue_of(DEFAULT_QUEUE, "high")) == 1
    assert fleet("submit", "prompts.txt", "--out", "run2", "--priority", "urgent").returncode == 1
