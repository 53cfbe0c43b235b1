"""What the operator allows, as the producer learns it: from its own environment, and from the workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.queue import WorkerReport
from ddim_core.contracts.request import Request
from ddim_core.errors import InputError

Broken: TypeAlias = tuple[str | None, str]
"""The field of a request, and the rule that it breaks."""
Found = TypeVar("Found", Broken, str)


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """Bounds of this side, and those of the workers, of which one that allows a thing is enough."""

    own: Limits = NO_LIMITS
    of_workers: frozenset[Limits] = field(default_factory=frozenset)
    """Empty: no worker is known, and any may come."""

    @classmethod
    def known(cls, own: Limits, reports: Iterable[WorkerReport]) -> FleetLimits:
        """Return the bounds that hold with the workers of these reports; one that drains takes nothing new."""
        return cls(own, frozenset(report.limits for report in reports if report.state != "draining"))

    def limit_requests(self) -> bool:
        """Return whether there is anything to ask ``faults`` for: a run may have a million requests."""
        return self.own != NO_LIMITS or (bool(self.of_workers) and NO_LIMITS not in self.of_workers)

    def faults(self, request: Request) -> list[Broken]:
        """Return each bound that keeps a request with nothing left to guess from being made."""
        by_worker = (list(limits.faults(request)) for limits in self.of_workers)
        return list(dict.fromkeys([*self.own.faults(request), *_of_the_loosest(by_worker)]))

    def check_run(self, requests: int, images: int) -> None:
        """Make sure that a run may be so large.

        Raises:
            InputError: It may not.
        """
        by_worker = (list(limits.run_faults(requests, images)) for limits in self.of_workers)
        faults = dict.fromkeys([*self.own.run_faults(requests, images), *_of_the_loosest(by_worker)])
        if faults:
            raise InputError("; ".join(faults))


def _of_the_loosest(by_worker: Iterator[list[Found]]) -> list[Found]:
    """Return the faults that the worker with the fewest of them finds: none, if one allows it or there is none."""
    return min(by_worker, key=lambda faults: (len(faults), str(faults)), default=[])
