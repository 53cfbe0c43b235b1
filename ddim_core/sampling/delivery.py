"""Outcomes to those who wait for them, from a thread of its own: callbacks must not hold up the device."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable

from ddim_core.sampling.ticket import Outcome


class Deliveries:
    """Settles futures in the order in which their outcomes came."""

    def __init__(self) -> None:
        """Nothing is delivered before ``start``."""
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="deliveries", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def send(self, outcomes: Iterable[Outcome]) -> None:
        """Have the outcomes delivered; returns at once."""
        for outcome in outcomes:
            self._outcomes.put(outcome)

    def close(self) -> None:
        """Return when all that was sent is delivered, unless a callback asks, which is at one of them."""
        self._outcomes.put(None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while (outcome := self._outcomes.get()) is not None:
            outcome.deliver()
