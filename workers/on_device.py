"""What this process has on its device, as the watchdog sees it: whether anything, and which image if one is alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ddim_core.errors import FleetError
from workers.suspects import Suspects

RETRY_S = 1.0


class OnDevice:
    """Counts the images between submission and return; several threads may."""

    def __init__(self, begin_trial: Callable[[], None] = lambda: None) -> None:
        """Begin with none; ``begin_trial`` is called before images go on trial."""
        self._begin_trial = begin_trial
        self._lock = threading.Lock()
        self._count = 0
        self._alone: tuple[Suspects, str] | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an image was submitted and has not come back."""
        return self._count > 0

    def add(self) -> None:
        """Count an image that was submitted."""
        with self._lock:
            self._count += 1

    def remove(self) -> None:
        """Count one that came back, whatever came of it."""
        with self._lock:
            self._count -= 1

    @contextmanager
    def on_trial(self, suspects: Suspects, images: Sequence[str]) -> Iterator[None]:
        """Say that these images, and no others, are on the device; one trial at a time."""
        self._begin_trial()
        self._alone = (suspects, images[0]) if len(images) == 1 else None
        try:
            yield
        finally:
            self._alone = None

    def accuse(self, reason: FleetError, patience_s: float) -> bool:
        """Note that the image that is alone on the device, if one is, cannot be made; return whether that is noted.

        It may be called from any thread. While Redis is away, it tries again for as long as ``patience_s``.
        """
        alone, until = self._alone, time.monotonic() + patience_s
        if alone is None:
            return False
        suspects, image = alone
        while not (noted := suspects.accuse(image, reason, proven=True)) and time.monotonic() < until:
            time.sleep(RETRY_S)
        return noted
