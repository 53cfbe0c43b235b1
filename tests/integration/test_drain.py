"""Workers that are asked to end, by signals and by commands, and devices that are given up."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddim_core.contracts.hosts import CORDONS_KEY
from ddim_core.contracts.queue import WORKER_TTL_S, RunKeys
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder
from tests.integration.fleet_command import FleetCommand
from tests.integration.worker_host import PATIENCE_S, Workers, plan_run, reports, send, wait_for
from tools.servers import RedisServer
from workers.process.presence import REPORT_INTERVAL_S

pytestmark = pytest.mark.slow

StartWorkers = Callable[..., Workers]
HOST = socket.gethostname()
ENDLESS = Request(prompt="a glacier", num_inference_steps=1000)
STEP = 200
"""Milliseconds: an image of ``ENDLESS`` takes minutes."""


@pytest.fixture
def fleet(fleet_with_broker: FleetCommand) -> FleetCommand:
    """Give the command line with the test's Redis as its broker."""
    return fleet_with_broker


def test_chunks_that_are_not_finished_in_time_are_given_back(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """The worker ends with 0, and another has the chunk within seconds, without an attempt that counts against it."""
    folder, keys = _endless_run(redis_server, tmp_path)
    workers = start_workers(f"sim:1:{STEP}", "--drain-timeout", "1")
    _wait_until_held(redis_server, keys, workers)
    began = time.monotonic()
    assert workers.stop(30) == 0
    assert time.monotonic() - began < 15
    assert workers.text().count("action=chunk_passed_on") == 2
    with redis_server.client() as board:
        assert board.llen("ddim-fleet") == folder.read_plan().chunk_count
        assert not board.exists(keys.lease(0)) and not board.smembers(keys.in_hand)
        assert set(board.hgetall(keys.attempts).values()) == {"0"}
    others = start_workers(f"sim:1:{STEP}")
    _wait_until_held(redis_server, keys, others)
    others.launcher.kill()


def test_a_second_signal_gives_everything_back_at_once(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """Half an hour's patience is over; nothing waits for a lease to run out."""
    folder, keys = _endless_run(redis_server, tmp_path)
    workers = start_workers(f"sim:2:{STEP}")
    _wait_until_held(redis_server, keys, workers)
    for _ in range(2):
        workers.launcher.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    assert workers.launcher.wait(20) == 0
    with redis_server.client() as board:
        assert board.llen("ddim-fleet") == folder.read_plan().chunk_count
        assert not list(board.scan_iter(f"{keys.lease(0)[:-1]}*"))


def test_a_host_is_drained_from_elsewhere_and_stays_out_until_it_is_put_back(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers, fleet: FleetCommand
) -> None:
    """Its service manager may start it again: it does nothing then."""
    _, keys = _endless_run(redis_server, tmp_path)
    workers = start_workers(f"sim:1:{STEP}")
    _wait_until_held(redis_server, keys, workers)
    done = fleet("drain", HOST, "--now", "--reason", "new power supply")
    assert done.returncode == 0, done.stderr
    assert f"{HOST} is drained\nto put it back: ddim-fleet uncordon {HOST}\n" in done.stderr
    assert workers.launcher.wait(20) == 0
    again = start_workers(f"sim:1:{STEP}")
    wait_for(lambda: _hosts(fleet) == ["out of service"], PATIENCE_S, again.text)
    assert f"out of service: {HOST} since" in fleet("status").stdout
    assert "new power supply" in fleet("status").stdout
    assert "is ready" not in again.text()
    assert fleet("uncordon", HOST).returncode == 0
    _wait_until_held(redis_server, keys, again)
    assert fleet("uncordon", HOST).returncode == 1
    again.launcher.kill()


def test_a_device_that_keeps_dying_is_given_up_and_its_neighbour_goes_on(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers, fleet: FleetCommand
) -> None:
    """Status names it with the reason, and a command puts it back."""
    workers = start_workers("sim:2", "--max-deaths", "2")
    workers.wait_ready(2)
    for _ in range(2):
        wait_for(lambda: _pid_of(fleet, "sim:1") is not None, PATIENCE_S, workers.text)
        pid = _pid_of(fleet, "sim:1")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: _pid_of(fleet, "sim:1") != pid or _out(fleet), PATIENCE_S, workers.text)
    wait_for(lambda: _out(fleet), PATIENCE_S, workers.text)
    assert (
        _out(fleet)[f"{HOST}/sim:1"]["reason"] == "its process died 2 times without an image, last: killed by SIGKILL"
    )
    folder = plan_run(str(tmp_path / "run"), [Request(prompt="a brook")] * 8)
    send(redis_server, folder)
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S, workers.text)
    assert {record.device for record in folder.records()} == {"sim:0"}
    assert f"\n\nout of service: {HOST}/sim:1 since" in fleet("status", folder.url).stdout
    assert fleet("uncordon", f"{HOST}/sim:1").returncode == 0
    workers.wait_ready(3)


def test_a_device_that_made_images_before_each_death_is_not_given_up(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """Requests that kill their worker are found out among others that are made: no fault of the device."""
    prompts = [f"a hill {n}" if n % 4 else f"sim:kill {n}" for n in range(12)]
    folder = plan_run(str(tmp_path / "run"), [Request(prompt=p, num_inference_steps=2) for p in prompts])
    send(redis_server, folder)
    workers = start_workers("sim:1", "--max-deaths", "7")
    wait_for(lambda: folder.read_manifest() is not None, 2 * PATIENCE_S, workers.text)
    assert workers.text().count("action=worker_died") >= 4
    with redis_server.client() as board:
        assert not board.exists(CORDONS_KEY)


def test_a_place_that_is_not_there_is_refused(fleet: FleetCommand, start_workers: StartWorkers) -> None:
    """With the names of those that are."""
    workers = start_workers("sim:1")
    workers.wait_ready(1)
    done = fleet("drain", "node99")
    assert done.returncode == 1
    assert f"'node99' must be a host or device that is served, such as {HOST}, {HOST}/sim:0" in done.stderr


def _endless_run(server: RedisServer, tmp_path: Path) -> tuple[RunFolder, RunKeys]:
    folder = plan_run(str(tmp_path / "run"), [ENDLESS] * 16, images_per_chunk=2)
    send(server, folder)
    return folder, RunKeys(folder.read_plan().run_id)


def _wait_until_held(server: RedisServer, keys: RunKeys, workers: Workers) -> None:
    with server.client() as board:
        wait_for(lambda: board.scard(keys.in_hand) >= 2 and board.exists(keys.attempts), PATIENCE_S, workers.text)


def _status(fleet: FleetCommand) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(fleet("status", "--json").stdout)
    return status


def _hosts(fleet: FleetCommand) -> list[str]:
    return [report["state"] for report in _status(fleet)["host_reports"]]


def _out(fleet: FleetCommand) -> dict[str, Any]:
    out: dict[str, Any] = _status(fleet)["out_of_service"]
    return out


def _pid_of(fleet: FleetCommand, device: str) -> int | None:
    """Return the process that serves a device; the newest, as the report of one that died stays for some seconds."""
    reports = [report for report in _status(fleet)["worker_reports"] if report["device"] == device]
    living = [int(report["pid"]) for report in reports if Path(f"/proc/{report['pid']}").exists()]
    return max(living, default=None)


def test_two_supervisors_on_one_host_are_kept_apart_by_name_and_cores(
    redis_server: RedisServer, fleet: FleetCommand, start_workers: StartWorkers
) -> None:
    """Each has its own line in status and is drained alone; without a name the second says that it has the first's."""
    cores = sorted(os.sched_getaffinity(0))
    left = start_workers("sim:1", "--host-name", "left", "--cores", str(cores[0]))
    right = start_workers("sim:1", "--host-name", "right", "--cores", str(cores[-1]))
    for one in (left, right):
        one.wait_ready(1)
    found = {one.host: os.sched_getaffinity(one.pid) for one in reports(redis_server)}
    assert found == {"left": {cores[0]}, "right": {cores[-1]}}
    assert fleet("drain", "left").returncode == 0
    assert left.launcher.wait(30) == 0 and right.launcher.poll() is None
    assert {one.host for one in reports(redis_server)} == {"right"}
    again = start_workers("sim:1", "--host-name", "left")
    wait_for(lambda: "action=out_of_service place=left" in again.text(), 30, again.text)
    third = start_workers("sim:1", "--host-name", "right")
    wait_for(lambda: f"action=same_name host=right pid={right.launcher.pid}" in third.text(), 30, third.text)
    assert "same_name" not in right.text() + again.text()


def test_a_worker_that_is_killed_leaves_the_count_of_workers_at_once(
    redis_server: RedisServer, start_workers: StartWorkers
) -> None:
    """Its supervisor sees it die; its successor would else stand beside it in status for a quarter of a minute."""
    workers = start_workers("sim:1")
    workers.wait_ready(1)
    (killed,) = reports(redis_server)
    os.kill(killed.pid, signal.SIGKILL)
    took = wait_for(lambda: killed.pid not in {one.pid for one in reports(redis_server)}, 30, workers.text)
    assert took < WORKER_TTL_S - REPORT_INTERVAL_S
