"""Redis, workers and commands for the benchmarks of bulk work, each on the cores that it is given."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ddim_core.errors import HostError
from ddim_core.storage.run_folder import MANIFEST
from producer.local.child import Child, last_line, running
from tools.servers import RedisServer

_READY = re.compile(r" is ready, pid (\d+)")
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command took."""

    seconds: float
    peak_mib: float


def run_on(cores: Iterable[int], *command: str) -> Ended:
    """Run a command to its end, on these cores; what it prints is dropped.

    Raises:
        HostError: It failed; says with which last words.
    """
    began, peak_mib = time.perf_counter(), 0.0
    with tempfile.NamedTemporaryFile() as log:
        with subprocess.Popen([*_on(cores), *command], stdout=subprocess.DEVNULL, stderr=log) as process:
            while process.poll() is None:
                peak_mib = max(peak_mib, peak_of(process.pid))
                time.sleep(_POLL_S)
        seconds = time.perf_counter() - began
        if process.returncode:
            raise HostError(f"{command[0]} must succeed, got code {process.returncode}: {last_line(Path(log.name))}")
    return Ended(seconds, peak_mib)


def fleet_command(*arguments: str) -> list[str]:
    """Return ``ddim-fleet ARGUMENTS`` as this interpreter runs it."""
    return [sys.executable, "-W", "ignore", "-m", "producer", *arguments]


def peak_of(pid: int) -> float:
    """Return the most memory that a process has had resident, in MiB; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def redis_running(folder: Path) -> Iterator[str]:
    """Run a Redis that forgets everything, and yield its URL."""
    server = RedisServer(folder)
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def workers_running(
    devices: str, broker_url: str, folder: Path, *options: str, cores: Iterable[int]
) -> Iterator[list[int]]:
    """Run workers on these cores, and yield the ids of their processes once all are ready."""
    log = folder / f"workers-{devices}.log".replace(":", "-")
    command = [*_on(cores), sys.executable, "-W", "ignore", "-m", "workers", "--devices", devices, *options]
    count = int(devices.split(":")[1])
    with running("workers", command, log, environment={"DDIM_FLEET_BROKER": broker_url}) as supervisor:
        _wait_for(lambda: len(_READY.findall(log.read_text())) >= count, supervisor)
        yield [int(pid) for pid in _READY.findall(log.read_text())]


def wait_until_whole(folder: Path) -> None:
    """Wait until a run has its manifest."""
    while not (folder / MANIFEST).exists():
        time.sleep(_POLL_S)


def _wait_for(condition: Callable[[], bool], child: Child) -> None:
    while not condition():
        child.check()
        time.sleep(0.1)


def _on(cores: Iterable[int]) -> list[str]:
    program = shutil.which("taskset")
    if program is None:
        raise HostError("pinning needs taskset, of util-linux, on the PATH")
    return [program, "-c", ",".join(map(str, cores))]
