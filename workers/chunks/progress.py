"""How far a chunk is."""

from __future__ import annotations

import threading
import time

from workers.coordination.run_notes import PROGRESS_INTERVAL_S, Tally
from workers.meter import Meter


class Progress:
    """Counts the images of one chunk, from whichever thread finishes one, and notes them a few times a second."""

    def __init__(self, tally: Tally, chunk: int, meter: Meter, *, made: int = 0) -> None:
        """Start from ``made``, also in Redis at the first image, where an earlier attempt may have left its count."""
        self._tally = tally
        self._chunk = chunk
        self._meter = meter
        self._lock = threading.Lock()
        self._noted_at = 0.0
        self.made = made
        self.failed = 0

    def add(self, *, made: bool) -> None:
        """Count one image, made or failed."""
        self._meter.add(made=made)
        with self._lock:
            if made:
                self.made += 1
            else:
                self.failed += 1
            if time.monotonic() - self._noted_at < PROGRESS_INTERVAL_S:
                return
            self._noted_at = time.monotonic()
            counts = self.made, self.failed
        self._tally.progress(self._chunk, *counts)
