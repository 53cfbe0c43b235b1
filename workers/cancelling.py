"""Stops the chunks in hand of runs that were cancelled, between two images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ddim_core.storage.run_folder import RunFolder
from workers.periodic import Periodic

LOOK_INTERVAL_S = 3.0
"""One look at the store for each run in hand: seldom enough for a bucket, and soon enough for who cancels."""


class CancelWatch:
    """Looks every few seconds whether a run in hand was cancelled, which only its store knows."""

    def __init__(self, interval_s: float = LOOK_INTERVAL_S) -> None:
        """Watch nothing yet."""
        self._lock = threading.Lock()
        self._watched: list[tuple[RunFolder, Callable[[], None]]] = []
        self._looking = Periodic("cancelled-runs", interval_s, self.look)

    def start(self) -> None:
        """Begin to look."""
        self._looking.start()

    def stop(self) -> None:
        """Look no more."""
        self._looking.stop()

    @contextmanager
    def over(self, folder: RunFolder, stop: Callable[[], None]) -> Iterator[None]:
        """Call ``stop``, perhaps more than once, if the run is cancelled while the block lasts."""
        watched = (folder, stop)
        with self._lock:
            self._watched.append(watched)
        try:
            yield
        finally:
            with self._lock:
                self._watched.remove(watched)

    def look(self) -> None:
        """Look once at each run in hand.

        Raises:
            StorageError: The store failed; the next look is soon.
        """
        with self._lock:
            watched = list(self._watched)
        folders = {folder.url: folder for folder, _ in watched}
        cancelled = {url for url, folder in folders.items() if folder.is_cancelled()}
        for folder, stop in watched:
            if folder.url in cancelled:
                stop()
