"""What this process has on its device, as the watchdog sees it: whether anything, and which image if one is alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from ddim_core.errors import FleetError
from workers.coordination.suspects import Suspects

RETRY_S = 1.0


class Trying:
    """The notes on images that are on the device, to be taken back when they have left it."""

    def __init__(self, suspects: Suspects, images: Sequence[str], unknown: Collection[str]) -> None:
        """The notes were made; nothing is taken back yet."""
        self._suspects, self._images, self._unknown = suspects, images, unknown
        self._left = len(images)
        self._device_failed = False
        self._taken_back = threading.Lock()
        self._excusing: threading.Thread | None = None

    def came_back(self, *, device_failed: bool) -> None:
        """Take the notes back with the last image, in a thread of its own: who calls has a device to feed."""
        self._left -= 1
        self._device_failed |= device_failed
        if self._left == 0 and not self._device_failed:
            self._excusing = threading.Thread(target=self._excuse, name="trial", daemon=True)
            self._excusing.start()

    def excuse(self) -> None:
        """Take the notes back, unless that was done."""
        self._excuse()

    def join(self) -> None:
        """Wait until what was begun is done, before other notes are made."""
        if self._excusing is not None:
            self._excusing.join()

    def _excuse(self) -> None:
        if self._taken_back.acquire(blocking=False):  # and never released: once is enough
            self._suspects.excuse(self._images, self._unknown)


class OnDevice:
    """Counts the images between submission and return; several threads may."""

    def __init__(self, begin_trial: Callable[[], None] = lambda: None) -> None:
        """Begin with none; ``begin_trial`` is called before images go on trial."""
        self._begin_trial = begin_trial
        self._lock = threading.Lock()
        self._count = 0
        self._alone: tuple[Suspects, str] | None = None
        self._trial: Trying | None = None

    @property
    def is_busy(self) -> bool:
        """Whether an image was submitted and has not come back."""
        return self._count > 0

    def add(self) -> None:
        """Count an image that was submitted."""
        with self._lock:
            self._count += 1

    def remove(self, *, device_failed: bool = False) -> None:
        """Count one that came back, whatever came of it; when the last one on trial has, the device survived them.

        What comes after that, encoding and a store that may be away, is held against no image.
        """
        with self._lock:
            self._count -= 1
            if self._trial is not None:
                self._trial.came_back(device_failed=device_failed)

    @contextmanager
    def on_trial(self, suspects: Suspects, images: Sequence[str], unknown: Collection[str] = ()) -> Iterator[Trying]:
        """Say that these images, and no others, are on the device; one trial at a time.

        ``unknown``: those of them of which nothing was known before.
        """
        self._begin_trial()
        self._alone = (suspects, images[0]) if len(images) == 1 else None
        self._trial = trial = Trying(suspects, images, unknown)
        try:
            yield trial
        finally:
            self._alone = self._trial = None
            trial.join()

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
