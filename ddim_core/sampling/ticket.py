"""A spec on its way through the sampling thread, and how it ended."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass

from ddim_core.contracts.sample import BatchShape, SampledImage, SampleSpec
from ddim_core.errors import DeadlineExceededError, FleetError


@dataclass(eq=False, slots=True)
class Ticket:
    """A spec with the future that waits for its image."""

    spec: SampleSpec
    future: Future[SampledImage]
    deadline_s: float = math.inf
    """``time.monotonic()`` after which nobody wants the image any more."""


@dataclass(eq=False, slots=True)
class Preparation:
    """Shapes to compile for, with the future that waits until that is done."""

    shapes: tuple[BatchShape, ...]
    thresholding: bool
    inverting: bool
    done: Future[None]


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


def late(ticket: Ticket) -> Outcome:
    """Return the outcome of a ticket whose deadline has passed."""
    return Outcome(ticket, error=DeadlineExceededError("the image must be there by its deadline, and it was not"))
