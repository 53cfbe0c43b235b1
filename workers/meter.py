"""How fast images come, over the last minutes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

RATE_WINDOW_S = 30.0


class Meter:
    """Counts images and says how fast they came lately."""

    def __init__(self, on_made: Callable[[], None] = lambda: None) -> None:
        """Start at zero; ``on_made`` is called for each image that was made."""
        self._on_made = on_made
        self._lock = threading.Lock()
        self.total = 0
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def add(self, *, made: bool) -> None:
        """Count one image, made or failed."""
        with self._lock:
            self.total += 1
        if made:
            self._on_made()

    def restart(self) -> None:
        """Forget how fast they came: a worker that compiles makes none, which says nothing of its speed."""
        with self._lock:
            self._marks = deque([(time.monotonic(), self.total)])

    def read(self) -> tuple[int, float]:
        """Return the images so far, and images per second over the last ``RATE_WINDOW_S``."""
        now = time.monotonic()
        with self._lock:
            while len(self._marks) > 1 and now - self._marks[1][0] >= RATE_WINDOW_S:
                self._marks.popleft()
            since, before = self._marks[0]
            self._marks.append((now, self.total))
            return self.total, (self.total - before) / max(now - since, 1e-3)
