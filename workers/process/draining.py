"""The end of a worker process that was asked to end: what it has in hand is finished, or given back when time is up."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

from workers.settings import EXIT_OK, GIVE_BACK_S, GIVE_BACK_SIGNAL

log = logging.getLogger(__name__)

_NAP_S = 0.1


class Drain:
    """Takes the requests to end. It runs in a thread of its own, since a signal's handler must wait for nothing."""

    def __init__(
        self,
        timeout_s: float,
        *,
        stop_taking: Callable[[], None],
        give_back: Callable[[], None],
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        """Prepare.

        Args:
            timeout_s: How long chunks in hand may go on.
            stop_taking: Has the process take no more chunks, and end once it has none in hand.
            give_back: Has the chunks in hand given back.
            leave: Ends the process at once, if it does not end by itself after that.
        """
        self._timeout_s = timeout_s
        self._stop_taking = stop_taking
        self._give_back = give_back
        self._leave = leave
        self._signals = 0
        self._urgent = False
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)

    def on_signal(self, number: int, _: object = None) -> None:
        """Begin with the first signal; with the second, or with ``GIVE_BACK_SIGNAL``, wait no longer."""
        self._signals += 1
        self._urgent |= self._signals > 1 or number == GIVE_BACK_SIGNAL
        self.begin()

    def begin(self) -> None:
        """Begin, unless it has begun."""
        if self._thread.ident is None:
            self._thread.start()

    def _run(self) -> None:
        self._stop_taking()
        log.info("draining: no new chunks are taken", extra={"action": "draining", "timeout_s": self._timeout_s})
        self._wait(self._timeout_s)
        log.info("the chunks in hand are given back", extra={"action": "giving_back", "urgent": self._urgent})
        self._give_back()
        time.sleep(GIVE_BACK_S)
        log.warning("this process does not end by itself and is ended", extra={"action": "drain_cut_short"})
        self._leave(EXIT_OK)

    def _wait(self, timeout_s: float) -> None:
        """Wait, in short naps: a handler sets the flag, and it must touch no lock."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and not self._urgent:
            time.sleep(_NAP_S)
