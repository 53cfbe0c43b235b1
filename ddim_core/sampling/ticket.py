"""A spec on its way through the sampling thread, and how it ended."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.errors import FleetError


@dataclass(eq=False, slots=True)
class Ticket:
    """A spec with the future that waits for its image."""

    spec: SampleSpec
    future: Future[SampledImage]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a ticket ended: with an image, or with the error in its place."""

    ticket: Ticket
    image: SampledImage | None = None
    error: FleetError | None = None

    def deliver(self) -> None:
        """Settle the ticket's future, unless it was cancelled."""
        future = self.ticket.future
        if not future.set_running_or_notify_cancel():
            return
        if self.image is not None:
            future.set_result(self.image)
        else:
            future.set_exception(self.error)
