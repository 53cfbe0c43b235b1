"""What the sampling thread is to do, in order, and with a ceiling on it."""

from __future__ import annotations

import queue
import time
from typing import TypeAlias

from ddim_core.sampling.ticket import Preparation, Ticket

Entry: TypeAlias = "Ticket | Preparation | None"
"""None: nothing will follow."""


class Inbox(queue.Queue[Entry]):
    """A bounded queue that tickets leave when their time is over, too."""

    def expire(self) -> list[Ticket]:
        """Take out the tickets whose deadline has passed, and return them."""
        now = time.monotonic()
        with self.mutex:
            late = [entry for entry in self.queue if isinstance(entry, Ticket) and entry.deadline_s <= now]
            for ticket in late:
                self.queue.remove(ticket)
            if late:
                self.not_full.notify_all()
        return late

    def cancel(self) -> None:
        """Take out everything, and tell those who wait for it."""
        while True:
            try:
                entry = self.get_nowait()
            except queue.Empty:
                return
            if isinstance(entry, Preparation):
                entry.done.cancel()
            elif entry is not None:
                entry.future.cancel()
