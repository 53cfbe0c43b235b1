"""What takes this host or a device of it out of service, in Redis; and what the host reports there of itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError
from redis import Redis

from ddim_core.contracts.hosts import CORDONS_KEY, HOST_TTL_S, HOSTS_PATTERN, Cordon, HostReport, host_key
from ddim_core.contracts.moment import now
from workers.coordination.connection import Board
from workers.periodic import Periodic

EXCHANGE_INTERVAL_S = 2.0


class Cordons:
    """The marks on one host. Those that this launcher sets hold without Redis too, which is told when it is back."""

    def __init__(self, board: Board, host: str, pid: int, report: Callable[[], HostReport]) -> None:
        """Know of no mark; exchange them, together with ``report``, every ``EXCHANGE_INTERVAL_S`` once started."""
        self._board = board
        self._host = host
        self._pid = pid
        self._report = report
        self._lock = threading.Lock()
        self._marks: dict[str, Cordon] = {}
        self._unsent: dict[str, Cordon] = {}
        self._exchanges = Periodic("host", EXCHANGE_INTERVAL_S, self.exchange)

    def start(self) -> None:
        """Begin to exchange."""
        self._exchanges.start()

    def stop(self) -> None:
        """End it, and take the report back."""
        self._exchanges.stop()
        self._board.ask(lambda redis: redis.delete(host_key(self._host, self._pid)), otherwise=0)

    def namesakes(self) -> list[int]:
        """Return the processes on this machine that report under the same name, this one left out."""
        prefix = host_key(self._host, 0)[:-1]

        def look(redis: Redis) -> list[int]:
            pids = [key[len(prefix) :] for key in redis.scan_iter(HOSTS_PATTERN, count=1000) if key.startswith(prefix)]
            return sorted(int(pid) for pid in pids if pid.isdecimal() and int(pid) != self._pid)

        # A report outlives a supervisor that was killed by a few seconds; one of a container's host is none of ours.
        return [pid for pid in self._board.ask(look, otherwise=list[int]()) if Path(f"/proc/{pid}").exists()]

    def of_host(self) -> Cordon | None:
        """Return what takes the whole host out of service."""
        return self._at(self._host)

    def of_device(self, label: str) -> Cordon | None:
        """Return what takes a device of the host out of service."""
        return self._at(f"{self._host}/{label}")

    def put_out(self, label: str, reason: str) -> None:
        """Take a device out of service, until somebody removes the mark."""
        with self._lock:
            self._unsent[f"{self._host}/{label}"] = Cordon(reason=reason, since=now())

    def exchange(self) -> None:
        """Tell Redis, and ask it, once; while it is away all stays as it is."""
        with self._lock:
            unsent = dict(self._unsent)
        report = self._report().model_dump_json()

        def talk(redis: Redis) -> dict[str, str]:
            with redis.pipeline() as pipe:
                for place, cordon in unsent.items():
                    pipe.hsetnx(CORDONS_KEY, place, cordon.model_dump_json())
                pipe.set(host_key(self._host, self._pid), report, ex=HOST_TTL_S)
                pipe.hgetall(CORDONS_KEY)
                marks: dict[str, str] = pipe.execute()[-1]
                return marks

        marks = self._board.ask(talk, otherwise=None)
        if marks is not None:
            with self._lock:
                self._marks = {place: _read(text) for place, text in marks.items()}
                self._unsent = {place: cordon for place, cordon in self._unsent.items() if place not in unsent}

    def _at(self, place: str) -> Cordon | None:
        with self._lock:
            return self._unsent.get(place) or self._marks.get(place)


def _read(text: str) -> Cordon:
    try:
        return Cordon.model_validate_json(text)
    except ValidationError:  # somebody set it by hand, and meant it
        return Cordon(reason="a mark in Redis that cannot be read", since=now())
