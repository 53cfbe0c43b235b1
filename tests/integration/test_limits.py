"""An operator's limits on a real fleet: refused before anything is queued, and by workers whatever was queued."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ddim_core.contracts.limits import LIMITS_VARIABLE
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder
from producer import Client
from tests.integration.fleet_command import FleetCommand
from tests.integration.worker_host import Workers, plan_run, send, wait_for
from tools.servers import RedisServer

StartWorkers = Callable[..., Workers]
PROMPTS = "".join(
    json.dumps({"prompt": f"a star {n}", "num_inference_steps": steps, "height": 32, "width": 32}) + "\n"
    for n, steps in enumerate([4, 500, 4])
)
RULE = "num_inference_steps must be at most 100 on this fleet, got 500"


@pytest.fixture
def limited_workers(start_workers: StartWorkers, monkeypatch: pytest.MonkeyPatch) -> Workers:
    """Give a worker that takes a hundred steps and twenty images a run; producers do not know of it by themselves."""
    monkeypatch.setenv(LIMITS_VARIABLE, "max_num_inference_steps=100,max_images_per_run=20")
    workers = start_workers("sim:1:1")
    monkeypatch.delenv(LIMITS_VARIABLE)
    workers.wait_ready(1)
    return workers


def test_what_no_worker_would_make_is_not_queued(
    limited_workers: Workers, fleet_with_broker: FleetCommand, redis_server: RedisServer
) -> None:
    """By ``submit``, by ``--plan``, by ``extend``; the fault is one of the line. Without workers nobody knows."""
    fleet_with_broker.write("p.jsonl", PROMPTS)
    for options in (["--out", "run"], ["--plan"]):
        done = fleet_with_broker("submit", "p.jsonl", *options)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"p.jsonl:2: {RULE}" in done.stderr
    assert not (fleet_with_broker.folder / "run").exists()
    fleet_with_broker.write("good.jsonl", PROMPTS.replace("500", "100"))
    assert fleet_with_broker("submit", "good.jsonl", "--out", "run").returncode == 0
    done = fleet_with_broker("extend", "run", "p.jsonl")
    assert done.returncode == 1
    assert f"p.jsonl:2: {RULE}" in done.stderr
    more = [{"prompt": f"a moon {n}", "num_inference_steps": 4, "height": 32, "width": 32} for n in range(18)]
    fleet_with_broker.write("more.jsonl", "".join(json.dumps(line) + "\n" for line in more))
    done = fleet_with_broker("extend", "run", "more.jsonl")
    assert done.returncode == 1
    assert "the images of a run must be at most 20 on this fleet, got 21" in done.stderr
    limited_workers.stop()
    assert fleet_with_broker("submit", "p.jsonl", "--out", "other", "--plan").returncode == 0


def test_a_producer_may_have_the_limits_in_its_own_environment(
    fleet_with_broker: FleetCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then they hold without any worker; a misspelt one is told."""
    fleet_with_broker.write("p.jsonl", PROMPTS)
    monkeypatch.setenv(LIMITS_VARIABLE, "max_num_inference_steps=100")
    done = fleet_with_broker("submit", "p.jsonl", "--out", "run")
    assert (done.returncode, RULE in done.stderr) == (1, True)
    monkeypatch.setenv(LIMITS_VARIABLE, "max_steps=100")
    done = fleet_with_broker("submit", "p.jsonl", "--out", "run")
    assert done.returncode == 1
    assert done.stderr.startswith("ddim-fleet: error: DDIM_FLEET_LIMITS must name each of max_side_px, ")


def test_workers_refuse_what_was_queued_all_the_same(
    limited_workers: Workers, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Images above a limit are failed rows, their neighbours are made; a run that is too large is refused whole."""
    requests = [Request(prompt=f"a star {n}", num_inference_steps=steps) for n, steps in enumerate([4, 500, 4])]
    mixed = plan_run(str(tmp_path / "mixed"), requests)
    large = plan_run(str(tmp_path / "large"), [requests[0]] * 21)
    for folder in (mixed, large):
        send(redis_server, folder)
        wait_for(lambda folder=folder: folder.read_manifest() is not None, 120, limited_workers.text)
    assert outcomes(mixed) == [None, f"LimitExceededError: {RULE}", None]
    rule = "the images of a run must be at most 20 on this fleet, got 21"
    assert outcomes(large) == [f"LimitExceededError: {rule}"] * 21


def test_limits_that_were_raised_let_failed_images_be_made(
    start_workers: StartWorkers, limited_workers: Workers, redis_server: RedisServer, tmp_path: Path
) -> None:
    """By ``resume --failed``, as any other failed image."""
    folder = plan_run(str(tmp_path / "run"), [Request(prompt="a", num_inference_steps=101)])
    send(redis_server, folder)
    wait_for(lambda: folder.read_manifest() is not None, 120, limited_workers.text)
    limited_workers.stop()
    start_workers("sim:1:1")
    run = Client(redis_server.url).run(folder.url)
    assert run.retry_failed() == 1
    assert run.wait(timeout_s=120).images_made == 1


def outcomes(folder: RunFolder) -> list[str | None]:
    """Return the error of each row, None where there is an image."""
    return [f"{row.error_class}: {row.error_message}" if row.error_class else None for row in folder.records()]
