"""The lanes of one shape, and the samples in them and in line for them. Knows no tensor.

A *lane* is one row of the denoiser's batch. A sample with guidance takes two, one conditional and one unconditional; a
sample without takes one. A *bucket* is the lanes of one shape: its batch has one size whatever runs in it, and a
sample's bytes do not depend on who shares it.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Job = TypeVar("Job")


@dataclass(eq=False, slots=True)
class Sample(Generic[Job]):
    """One sample on its way through the engine."""

    job: Job
    """What the runner needs to make it; the engine does not look inside."""
    shape: Hashable
    """Samples of different shapes never share a batch."""
    num_lanes: int
    num_steps: int
    lanes: tuple[int, ...] = ()
    """The lanes it holds while it runs, in the order in which the runner gives them meaning."""
    batch_lanes: int = field(default=0, init=False)
    """How many lanes the batch has that it runs in."""
    queued_at: int = field(default=0, init=False)
    """How many steps the engine had taken when it came."""
    admitted_s: float = field(default=0.0, init=False)
    """``time.monotonic()`` when it got its lanes."""
    steps_done: int = field(default=0, init=False)


class Bucket(Generic[Job]):
    """The lanes of one shape, the samples in them, and those in line for them, first come, first served."""

    def __init__(self, shape: Hashable, num_lanes: int) -> None:
        self.shape = shape
        self.num_lanes = num_lanes
        self.waiting: deque[Sample[Job]] = deque()
        self.running: list[Sample[Job]] = []
        self.advanced_at = 0
        """The engine's step that was its last."""
        self._free = list(range(num_lanes))
        self._wanted = 0  # lanes, by running and waiting samples

    @property
    def lanes_in_use(self) -> int:
        """How many lanes hold a running sample."""
        return self.num_lanes - len(self._free)

    @property
    def fill(self) -> float:
        """The share of its lanes that its samples can use, in [0, 1]."""
        return min(1.0, self._wanted / self.num_lanes)

    @property
    def oldest(self) -> int:
        """When its first sample was queued."""
        return (self.running or self.waiting)[0].queued_at

    def queue(self, sample: Sample[Job]) -> None:
        """Take a sample into the line."""
        self.waiting.append(sample)
        self._wanted += sample.num_lanes

    def next(self) -> Sample[Job] | None:
        """Give the first in line its lanes and return it; None where there is none, or too few lanes are free."""
        if not self.waiting or self.waiting[0].num_lanes > len(self._free):
            return None
        sample = self.waiting.popleft()
        sample.lanes = tuple(heapq.heappop(self._free) for _ in range(sample.num_lanes))
        sample.batch_lanes = self.num_lanes
        sample.admitted_s = time.monotonic()
        sample.steps_done = 0
        self.running.append(sample)
        return sample

    def leave(self, sample: Sample[Job]) -> None:
        """Let a sample go, running or waiting."""
        (self.running if sample in self.running else self.waiting).remove(sample)
        self._wanted -= sample.num_lanes
        for lane in sample.lanes:
            heapq.heappush(self._free, lane)
        sample.lanes = ()

    def start_anew(self, num_lanes: int) -> None:
        """Send what runs back to the head of the line, in its order, and have so many lanes from now on."""
        for sample in self.running:
            sample.lanes = ()
        self.waiting.extendleft(reversed(self.running))
        self.running = []
        self.num_lanes = num_lanes
        self._free = list(range(num_lanes))
