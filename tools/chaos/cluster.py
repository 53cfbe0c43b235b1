"""Hosts with worker processes, the Redis they share behind a proxy, and runs that are given to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tools.chaos.proxy import Proxy
from tools.chaos.work import Work
from tools.servers import RedisServer, wait_for, without_aws

ROOT = Path(__file__).parents[2]
READY_S = 180.0


class Host:
    """A launcher with its workers; the rig stands in for the service manager that starts it again."""

    def __init__(
        self, broker: str, devices: str, log: Path, environment: Mapping[str, str], options: Sequence[str] = ()
    ) -> None:
        """Start it, with these options besides."""
        self.log = log
        self._command = [sys.executable, "-m", "workers", "--devices", devices, "--broker", broker, *options]
        self._environment = {**without_aws(), **environment}
        self._launcher = self._started()

    def start(self) -> None:
        """Start it again."""
        self._launcher = self._started()

    def is_up(self) -> bool:
        """Return whether the launcher runs."""
        return self._launcher.poll() is None

    def kill(self) -> None:
        """Lose the host: launcher and workers die at once, and nobody is left to say so."""
        for pid in [self._launcher.pid, *self.workers()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._launcher.wait()

    def drain(self, timeout_s: float = READY_S) -> int:
        """Have it finish what is in hand; return the launcher's exit code."""
        if self.is_up():
            self._launcher.send_signal(signal.SIGTERM)
        try:
            return self._launcher.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def workers(self) -> list[int]:
        """Return the process ids of the workers that live."""
        try:
            children = Path(f"/proc/{self._launcher.pid}/task/{self._launcher.pid}/children").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [int(pid) for pid in children.split()]

    def text(self) -> str:
        """Return all that it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as sink:
            return subprocess.Popen(self._command, cwd=ROOT, stdout=sink, stderr=sink, env=self._environment)


class Cluster:
    """Everything that a scenario breaks; use it in a ``with`` statement."""

    def __init__(self, folder: Path) -> None:
        """Start Redis and the proxy before it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.redis = RedisServer(folder)
        self.retired: list[RedisServer] = []
        """Servers that others took the place of."""
        self.proxy = Proxy(self.redis.port)
        self.hosts: list[Host] = []

    def __enter__(self) -> Cluster:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all of it; hosts that are drained already stay so."""
        for host in self.hosts:
            host.kill()
        self.proxy.close()
        for redis in [self.redis, *self.retired]:
            redis.stop()

    def add_hosts(
        self,
        count: int,
        devices: str,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> list[Host]:
        """Start hosts, and wait until all their workers take chunks; at ``--log-level DEBUG`` they name every image."""
        broker = f"redis://127.0.0.1:{self.proxy.port}/0"
        numbers = range(len(self.hosts), len(self.hosts) + count)
        logs = [self.folder / f"host-{number}.log" for number in numbers]
        hosts = [Host(broker, devices, log, environment or {}, options) for log in logs]
        self.hosts += hosts
        expected = int(devices.split(":")[1])
        for host in hosts:
            wait_for(lambda host=host: ready(host) >= expected, READY_S, f"workers of {host.log.name} must be ready")
        return hosts

    def remove_hosts(self) -> None:
        """Drain all hosts."""
        for host in self.hosts:
            host.drain()
        self.hosts.clear()

    def workers(self) -> list[tuple[Host, int]]:
        """Return every worker process that lives, with its host."""
        return [(host, pid) for host in self.hosts for pid in host.workers()]

    def log_text(self) -> str:
        """Return the logs of all hosts there ever were."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("host-*.log")))

    def submit(self, work: Work, out: str, environment: Mapping[str, str] | None = None) -> None:
        """Give the workers a run, by the command line.

        Raises:
            RuntimeError: The command did not end with 0.
        """
        command = [sys.executable, "-m", "producer", "submit", str(work.path), "--out", out]
        command += ["--broker", f"redis://127.0.0.1:{self.redis.port}/0", *work.options]
        done = subprocess.run(
            command, cwd=ROOT, env={**without_aws(), **(environment or {})}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"submit ended with {done.returncode}: {done.stderr.strip()}")

    def make(self, work: Work, folder: Path, timeout_s: float) -> Path:
        """Have a run made in ``folder``, and return that."""
        self.submit(work, str(folder))
        return self.wait(folder, timeout_s)

    def wait(self, folder: Path, timeout_s: float) -> Path:
        """Wait until the run in ``folder`` has its manifest."""
        wait_for((folder / "manifest.json").exists, timeout_s, f"the run in {folder.name} must end")
        return folder


def ready(host: Host) -> int:
    """Return how many times a worker of the host has said that it is ready."""
    return host.text().count(" is ready, pid ")


def committed(folder: Path) -> set[int]:
    """Return the chunks of a run that are done."""
    return {int(path.stem) for path in folder.glob("parts/*.parquet")}


def in_hand(cluster: Cluster, folder: Path) -> Iterator[tuple[int, int]]:
    """Yield each chunk of the run that has a lease, and the process that holds it."""
    prefix = f"ddim-fleet:lease:{run_id(folder)}:"
    with cluster.redis.client() as client:
        for key in client.scan_iter(f"{prefix}*"):
            chunk, holder = str(key).removeprefix(prefix), client.get(key)
            if chunk.isdigit() and holder:
                yield int(chunk), int(str(holder).rpartition("/")[2])


def run_id(folder: Path) -> str:
    """Return the name under which Redis knows the run."""
    return str(json.loads((folder / "run.json").read_text())["run_id"])
