"""Stops chunks in hand between two steps: those of runs that were cancelled or paused, or all when the worker ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from ddim_core.errors import FleetError, RunHaltedError
from ddim_core.storage.run_folder import RunFolder
from workers.periodic import Periodic

Stop: TypeAlias = Callable[[FleetError], None]

LOOK_INTERVAL_S = 1.0
"""Two small questions to the store for each run in hand: soon enough for who cancels, and no load for a bucket."""


class CancelWatch:
    """Looks every second whether a run in hand was cancelled or paused, which only its store knows."""

    def __init__(self, interval_s: float = LOOK_INTERVAL_S) -> None:
        """Watch nothing yet."""
        self._lock = threading.Lock()
        self._watched: list[tuple[RunFolder, Stop]] = []
        self._ends: FleetError | None = None
        self._looking = Periodic("halted-runs", interval_s, self.look)

    def start(self) -> None:
        """Begin to look."""
        self._looking.start()

    def stop(self) -> None:
        """Look no more."""
        self._looking.stop()

    @contextmanager
    def over(self, folder: RunFolder, stop: Stop) -> Iterator[None]:
        """Call ``stop``, perhaps more than once, if the run is halted or all is stopped while the block lasts."""
        watched = (folder, stop)
        with self._lock:
            self._watched.append(watched)
        try:
            if self._ends is not None:
                stop(self._ends)
            yield
        finally:
            with self._lock:
                self._watched.remove(watched)

    def stop_all(self, why: FleetError) -> None:
        """Stop everything in hand, and from now on whatever begins."""
        with self._lock:
            self._ends = why
            watched = list(self._watched)
        for _, stop in watched:
            stop(why)

    def check(self) -> None:
        """Return if something may begin.

        Raises:
            FleetError: What everything was stopped with.
        """
        if self._ends is not None:
            raise self._ends

    def look(self) -> None:
        """Look once at each run in hand.

        Raises:
            StorageError: The store failed; the next look is soon.
        """
        with self._lock:
            watched = list(self._watched)
        folders = {folder.url: folder for folder, _ in watched}
        halted = {url: how for url, folder in folders.items() if (how := folder.halted()) is not None}
        for folder, stop in watched:
            if folder.url in halted:
                stop(RunHaltedError(f"the run was {halted[folder.url]}"))
