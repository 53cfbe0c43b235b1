"""Continuous batching over a fixed number of lanes: who runs next, in which lanes, and until when. Knows no tensor.

A *lane* is one row of the denoiser's batch. A sample with guidance takes two, one conditional and one unconditional; a
sample without takes one. The device's batch so has one shape whatever runs, and a sample's bytes do not depend on who
shares it. The host counts steps, so it never asks the device whether a sample has finished.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from ddim_core.errors import SampleError

Job = TypeVar("Job")
Result = TypeVar("Result")
Taken_co = TypeVar("Taken_co", covariant=True)

_OVERTAKES_PER_LANE = 4  # a sample of another shape waits for at most this many batches of the present one


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
    admitted_s: float = field(default=0.0, init=False)
    """``time.monotonic()`` when it got its lanes."""
    steps_done: int = field(default=0, init=False)


@dataclass(frozen=True, slots=True)
class Finished(Generic[Job, Result]):
    """A sample that left the engine: with a result, or with the error that ended it alone."""

    sample: Sample[Job]
    result: Result | None = None
    error: SampleError | None = None


class Runner(Protocol[Job, Taken_co]):
    """The device side: what the engine drives."""

    def admit(self, sample: Sample[Job]) -> None:
        """Write a sample into its lanes; nothing else runs when its shape differs from the one before.

        Raises:
            SampleError: This sample cannot run; the others are not affected.
        """

    def advance(self, running: Sequence[Sample[Job]]) -> None:
        """Take one step with all lanes; ``running`` names the samples in them."""

    def take(self, sample: Sample[Job]) -> Taken_co:
        """Return the x_0 of a sample that took its last step; its lanes may be given away afterwards."""

    def drop(self, sample: Sample[Job]) -> None:
        """Set the lanes of a sample that will not go on to idle."""


class Engine(Generic[Job, Result]):
    """Keeps the lanes full: first come, first served, within one shape at a time."""

    def __init__(self, runner: Runner[Job, Result], num_lanes: int) -> None:
        self._runner = runner
        self._num_lanes = num_lanes
        self._free = list(range(num_lanes))
        self._overtaken = 0
        self._ended: list[Finished[Job, Result]] = []  # outlives a step that the device fails
        self.waiting: deque[Sample[Job]] = deque()
        self.running: list[Sample[Job]] = []

    @property
    def lanes_in_use(self) -> int:
        """How many lanes hold a running sample."""
        return self._num_lanes - len(self._free)

    def submit(self, sample: Sample[Job]) -> None:
        """Queue a sample.

        Raises:
            ValueError: It needs more lanes than there are, or no step.
        """
        if not 1 <= sample.num_lanes <= self._num_lanes or sample.num_steps < 1:
            raise ValueError(
                f"a sample must need 1 to {self._num_lanes} lanes and at least 1 step, "
                f"got {sample.num_lanes} lanes and {sample.num_steps} steps"
            )
        self.waiting.append(sample)

    def step(self) -> list[Finished[Job, Result]]:
        """Advance every running sample by one timestep; return those that ended: at x_0, or refused on admission."""
        self._admit()
        if self.running:
            self._runner.advance(self.running)
            for sample in self.running:
                sample.steps_done += 1
        self._retire()
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, sample: Sample[Job]) -> None:
        """Forget a sample, between two steps; its lanes are free for the next step."""
        if sample in self.running:
            self.running.remove(sample)
            self._runner.drop(sample)
            self._release(sample)
        elif sample in self.waiting:
            self.waiting.remove(sample)

    def abort(self) -> list[Sample[Job]]:
        """Forget all running samples without a word to the runner, which has lost its state; return them."""
        lost, self.running = self.running, []
        for sample in lost:
            self._release(sample)
        return lost

    def _admit(self) -> None:
        while (sample := self._next()) is not None:
            self.waiting.remove(sample)
            sample.lanes = tuple(heapq.heappop(self._free) for _ in range(sample.num_lanes))
            sample.admitted_s = time.monotonic()
            self.running.append(sample)  # before anything can fail, so that abort() knows it
            try:
                self._runner.admit(sample)
            except SampleError as error:
                self.running.remove(sample)
                self._release(sample)
                self._ended.append(Finished(sample, error=error))

    def _next(self) -> Sample[Job] | None:
        """Return the sample to admit now, or None when none fits."""
        if not self.waiting:
            return None
        first = self.waiting[0]
        if not self.running or first.shape == self.running[0].shape:
            self._overtaken = 0
            return first if self._fits(first) else None
        if self._overtaken >= _OVERTAKES_PER_LANE * self._num_lanes:
            return None  # let the batch drain: the first in line has been passed over often enough
        shape = self.running[0].shape
        fellow = next((sample for sample in self.waiting if sample.shape == shape), None)
        if fellow is None or not self._fits(fellow):
            return None
        self._overtaken += 1
        return fellow

    def _fits(self, sample: Sample[Job]) -> bool:
        return sample.num_lanes <= len(self._free)

    def _retire(self) -> None:
        done = [sample for sample in self.running if sample.steps_done == sample.num_steps]
        finished = [Finished(sample, self._runner.take(sample)) for sample in done]
        for sample in done:
            self.running.remove(sample)
            self._release(sample)
        self._ended += finished

    def _release(self, sample: Sample[Job]) -> None:
        for lane in sample.lanes:
            heapq.heappush(self._free, lane)
        sample.lanes = ()
