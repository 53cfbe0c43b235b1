"""What a worker does while a store fails: keep what is made, try again ever more rarely, and say so in one line."""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ddim_core.errors import OutputError, StorageError
from ddim_core.storage.objects import ObjectStore, normalise_url
from ddim_core.storage.run_folder import PLAN
from workers.periodic import Periodic

log = logging.getLogger(__name__)
Result = TypeVar("Result")

FIRST_PAUSE_S, MAX_PAUSE_S = 5.0, 60.0
"""Before the next try; it doubles with each that fails. A try is several requests already (``storage.bucket``)."""
PATIENCE_S = 300.0
"""How long what is made waits in memory for its store. Then the chunk is given back: it may be this host alone that
cannot write, and another that can would wait for these images."""
LOOK_INTERVAL_S = 2.0
SMALL_PROBE_BYTES, LARGE_PROBE_BYTES = 16, 64 << 20
"""A full disk takes a small object yet: once a chunk was given up, the store must take as much as that chunk has."""
_POLL_S = 0.5


@dataclass(slots=True)
class _Trouble:
    line: str
    since: float
    try_at: float
    failures: int = 0
    waiting: int = 0
    """Threads that will try for themselves."""
    probe_bytes: int = SMALL_PROBE_BYTES


def _never() -> bool:
    return False


class StoreWatch:
    """Which runs' stores failed lately, for all threads of a process, so that one of them asks and not each."""

    def __init__(self, stopping: Callable[[], bool] = _never, patience_s: float = PATIENCE_S) -> None:
        """Wait for no store any more once ``stopping`` says that this process ends."""
        self._stopping = stopping
        self._patience_s = patience_s
        self._troubles: dict[str, _Trouble] = {}
        self._changed = threading.Condition()
        self._looking = Periodic("stores", LOOK_INTERVAL_S, self.look)

    def start(self) -> None:
        """Begin to look whether stores are back for which no thread waits."""
        self._looking.start()

    def stop(self) -> None:
        """Look no more."""
        self._looking.stop()

    def lines(self) -> tuple[str, ...]:
        """Return for each store that is away what failed first, and why, in one line that names it."""
        with self._changed:
            return tuple(trouble.line for trouble in self._troubles.values())

    def is_away(self, run_url: str) -> bool:
        """Return whether the store of this run failed and has not been seen to work since."""
        with self._changed:
            return run_url in self._troubles

    def failed(self, run_url: str, exc: Exception) -> float:
        """Note that a store failed; return how many seconds to leave it alone.

        A URL that names no store, as anybody may put into a message, is none that could come back.
        """
        if not _names_a_store(run_url):
            return MAX_PAUSE_S
        line = _line(run_url, exc)
        now = time.monotonic()
        with self._changed:
            trouble = self._troubles.setdefault(run_url, _Trouble("", since=now, try_at=now))
            if now >= trouble.try_at:  # else this is another thread's word of the same failure
                trouble.failures += 1
                trouble.try_at = now + _pause_s(trouble.failures)
            is_news = _without_places(trouble.line) != _without_places(line)
            trouble.line = line if is_news else trouble.line
            pause_s = max(trouble.try_at - now, 0.0)
        log.log(
            logging.WARNING if is_news else logging.DEBUG,
            "a store failed; its run waits",
            extra={"action": "store_away", "error": line, "failures": trouble.failures, "pause_s": round(pause_s)},
        )
        return pause_s

    def worked(self, run_url: str) -> None:
        """Note that a store took what it was given, and wake whoever waits for it."""
        with self._changed:
            trouble = self._troubles.pop(run_url, None)
            self._changed.notify_all()
        if trouble is not None:
            seconds = round(time.monotonic() - trouble.since, 1)
            log.info("a store works again", extra={"action": "store_back", "store": run_url, "seconds": seconds})

    def insist(
        self,
        run_url: str,
        act: Callable[[], Result],
        given_up: Callable[[], bool] = _never,
        *,
        size_bytes: int | None = 0,
    ) -> Result:
        """Return what ``act`` brings, and have it try again for as long as ``PATIENCE_S`` while the store fails.

        Args:
            run_url: The run in that store.
            act: Safe to repeat, and to interrupt anywhere.
            given_up: Whether nobody wants it done any more.
            size_bytes: About as much as ``act`` writes, which the store must take before anything new is begun;
                None: it only reads, which says nothing of a store that takes no writes.

        Raises:
            StorageError: The store still fails, ``given_up`` says so, or the process ends.
        """
        until = 0.0
        while True:
            try:
                result = act()
            except StorageError as exc:
                self.failed(run_url, exc)
                now = time.monotonic()
                until = until or now + self._patience_s
                if now >= until or self._ended(given_up) or not _names_a_store(run_url):
                    self._probe_with(run_url, size_bytes or 0)
                    raise
                self._wait_for_turn(run_url, until, given_up)
                if self._ended(given_up):
                    raise
            else:
                if size_bytes is not None:
                    self.worked(run_url)
                return result

    def hold_off(self, run_url: str, seconds: float) -> None:
        """Wait until the store works, ``seconds`` at most."""
        until = time.monotonic() + seconds
        with self._changed:
            while run_url in self._troubles and time.monotonic() < until and not self._stopping():
                self._changed.wait(_POLL_S)

    def look(self) -> None:
        """Try every store whose time has come, unless a thread waits to do so."""
        now = time.monotonic()
        with self._changed:
            due = [url for url, one in self._troubles.items() if not one.waiting and now >= one.try_at]
        for run_url in due:
            self.ask(run_url)

    def ask(self, run_url: str) -> None:
        """Try a store with an object that nobody needs: where it takes that, what failed was another one alone."""
        with self._changed:
            trouble = self._troubles.get(run_url)
            probe_bytes = SMALL_PROBE_BYTES if trouble is None else trouble.probe_bytes
        try:
            store = ObjectStore(run_url)
            store.get(PLAN)  # and no HEAD, of whose refusal services do not say why
            store.check_writable(probe_bytes)
        except FileNotFoundError:  # the run was deleted, and a probe would bring its folder back
            self.worked(run_url)
        except StorageError as exc:
            self.failed(run_url, exc.__cause__ if isinstance(exc.__cause__, StorageError) else exc)
        else:
            self.worked(run_url)

    def _probe_with(self, run_url: str, size_bytes: int) -> None:
        with self._changed:
            if (trouble := self._troubles.get(run_url)) is not None:
                trouble.probe_bytes = min(max(trouble.probe_bytes, size_bytes), LARGE_PROBE_BYTES)

    def _ended(self, given_up: Callable[[], bool]) -> bool:
        return given_up() or self._stopping()

    def _wait_for_turn(self, run_url: str, until: float, given_up: Callable[[], bool]) -> None:
        with self._changed:
            trouble = self._troubles.get(run_url)
            if trouble is None:
                return
            trouble.waiting += 1
            while self._troubles.get(run_url) is trouble and time.monotonic() < min(trouble.try_at, until):
                if self._ended(given_up):
                    break
                self._changed.wait(_POLL_S)
            trouble.waiting -= 1


def _names_a_store(run_url: str) -> bool:
    try:
        normalise_url(run_url)
    except OutputError:
        return False
    return True


def _pause_s(failures: int) -> float:
    """Return a pause that differs between workers: a store that comes back must not meet all of them at once."""
    return min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10), MAX_PAUSE_S) * random.uniform(0.8, 1.0)  # noqa: S311 - no secret


def _line(run_url: str, exc: Exception) -> str:
    line = " ".join(str(exc).split())
    return line if run_url in line else f"{run_url}: {line}"


def _without_places(line: str) -> str:
    """Return what is the same for all objects of a store that fail for the same reason."""
    return re.sub(r"\S*/\S*", "", line)
