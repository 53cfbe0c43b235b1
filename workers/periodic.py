"""A thread that does one thing again and again until it is told to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Periodic:
    """Calls ``work`` every ``interval_s`` in a thread of its own; after an exception, which is logged, it goes on."""

    def __init__(self, name: str, interval_s: float, work: Callable[[], None]) -> None:
        """Prepare the thread; ``start`` sets it going."""
        self._interval_s = interval_s
        self._work = work
        self._stopped = threading.Event()
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Make the first call at once, in the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Make no further call, and wait up to ``timeout_s`` for the one that is running."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                self._work()
                self._failure = ""
            except Exception as exc:  # the thread must outlive whatever one call runs into
                self._log_once(exc)
            if self._stopped.wait(self._interval_s):
                return

    def _log_once(self, exc: Exception) -> None:
        """Log what failed, unless the call before failed in the same way: a store may be away for an hour."""
        if self._failure != repr(exc):
            self._failure = repr(exc)
            log.warning(
                "a periodic task failed and will be tried again",
                extra={"action": "periodic_failed", "task": self._thread.name, "error": repr(exc)},
                exc_info=log.isEnabledFor(logging.DEBUG),
            )
