"""The Python client against a real Redis and simulated workers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from ddim_core.contracts.queue import DEFAULT_QUEUE
from ddim_core.contracts.request import Request
from ddim_core.errors import BrokerError, InputError, RequestFaults, RunExistsError, RunNotFoundError
from producer import Client
from tests.integration.worker_host import Workers
from tools.servers import RedisServer, free_port


def test_a_run_is_submitted_waited_for_and_read(
    redis_url: str, start_workers: Callable[..., Workers], tmp_path: Path
) -> None:
    """Mappings and ``Request`` values mix; the records say what became of each."""
    start_workers("sim:2")
    requests = [{"prompt": "a", "custom_id": "first"}, Request(prompt="b", num_images_per_prompt=9, eta=0.5)]
    run = Client(redis_url).submit(requests, out=str(tmp_path / "out"), defaults={"num_inference_steps": 3, "eta": 1.0})
    status = run.wait(timeout_s=60)
    assert (status.state, status.images_made, status.images_failed) == ("finished", 10, 0)
    assert (status.chunks_done, status.workers, status.eta_s) == (3, 2, None)
    records = list(run.records())
    assert [record.custom_id for record in records] == ["first"] + ["000000001"] * 9
    assert {(record.num_inference_steps, record.eta) for record in records} == {(3, 1.0), (3, 0.5)}


def test_a_run_is_found_again_by_its_url(redis_url: str, tmp_path: Path) -> None:
    """Another process may follow it."""
    url = Client(redis_url).submit([{"prompt": "a"}], out=str(tmp_path / "out")).url
    status = Client(redis_url).run(url).status()
    assert (status.state, status.images_total, status.workers) == ("queued", 1, 0)


def test_a_queue_that_was_lost_is_made_again(
    redis_server: RedisServer, start_workers: Callable[..., Workers], tmp_path: Path
) -> None:
    """The store knows what is missing."""
    run = Client(redis_server.url).submit([{"prompt": "a"}] * 9, out=str(tmp_path / "out"))
    with redis_server.client() as board:
        board.flushall()
        assert run.resume() == 3
        assert board.llen(DEFAULT_QUEUE) == 3
    start_workers("sim:1")
    assert run.wait(timeout_s=60).images_made == 9
    assert run.resume() == 0


def test_waiting_has_an_end(redis_url: str, tmp_path: Path) -> None:
    """Without workers nothing happens."""
    run = Client(redis_url).submit([{"prompt": "a"}], out=str(tmp_path / "out"))
    with pytest.raises(
        TimeoutError, match=rf"^the run must be over within 0\.1 s, got queued at {re.escape(run.url)}$"
    ):
        run.wait(timeout_s=0.1)


def test_a_faulty_request_leaves_no_trace(redis_url: str, tmp_path: Path) -> None:
    """Requests are counted from 1, as lines are."""
    out = tmp_path / "out"
    with pytest.raises(RequestFaults, match=r"^requests:2: prompt must be given with shapes\nrequests:3: eta must be"):
        Client(redis_url).submit([{"prompt": "a"}, {}, {"prompt": "b", "eta": 2.0}], out=str(out))
    with pytest.raises(InputError, match=r"^requests must hold at least one request, got none$"):
        Client(redis_url).submit([], out=str(out))
    assert not out.exists()
    with redis.Redis.from_url(redis_url) as board:
        assert board.dbsize() == 0


def test_the_same_output_is_not_used_twice(redis_url: str, tmp_path: Path) -> None:
    """Whoever runs a script twice is told how to go on."""
    client = Client(redis_url)
    client.submit([{"prompt": "a"}], out=str(tmp_path / "out"))
    with pytest.raises(RunExistsError, match=r"holds this same one; to go on with it: ddim-fleet resume file://"):
        client.submit([{"prompt": "a"}], out=str(tmp_path / "out"))


def test_no_redis_and_no_run_are_told_apart(redis_url: str, tmp_path: Path) -> None:
    """Each has a class of its own to catch."""
    with pytest.raises(RunNotFoundError, match=r"^a run's URL must name a folder with run\.json"):
        Client(redis_url).run(str(tmp_path))
    with pytest.raises(BrokerError, match=r"^Redis at redis://127\.0\.0\.1:\d+/0 must answer, got: .*"):
        Client(f"redis://127.0.0.1:{free_port()}/0").submit([{"prompt": "a"}], out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
