"""The servers that workers need, on free ports of the loopback interface, for tests, benchmarks and the chaos rig."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from producer.local.fleet import redis_server

START_S = 60.0


class RedisServer:
    """A redis-server without a disk: stopping it loses all it knew."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start it, with ``options`` of redis-server besides its own."""
        self.port = free_port()
        self._options = options
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it empty, and wait until it answers."""
        command = [
            redis_server() or "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            *self._options,
        ]
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)
        wait_for(self._answers, START_S, "redis-server must answer")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        """Return a client that reaches it without the proxy."""
        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
                return bool(client.ping())
        except redis.exceptions.BusyLoadingError:
            return True
        except redis.ConnectionError:
            return False


def wait_for(condition: Callable[[], object], timeout_s: float, what: str) -> float:
    """Wait until ``condition`` holds; return the seconds that took.

    Raises:
        TimeoutError: It did not, with ``what`` as its reason.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"{what} within {timeout_s:.0f} s, and did not")
        time.sleep(0.1)
    return time.monotonic() - began


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def without_aws() -> dict[str, str]:
    """Return this process's environment without settings of another S3 service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
