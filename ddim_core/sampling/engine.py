"""Continuous batching in buckets of lanes: who runs next, in which lanes, and until when. Knows no tensor.

A *lane* is one row of the denoiser's batch. A sample with guidance takes two, one conditional and one unconditional; a
sample without takes one. A *bucket* is the lanes of one shape: its batch has one size whatever runs in it, and a
sample's bytes do not depend on who shares it. The host counts steps, so it never asks the device whether a sample has
finished.

Every bucket keeps its lanes and the samples in them while another one runs: switching costs nothing but the step
itself. So each step goes to the *fullest* bucket, and one with few samples waits until more of its shape have come.
Whoever waits for long makes its bucket *late*, and late buckets take turns, step by step, before all others: then no
stream of another shape holds a sample up for ever, and no long sample holds up everyone else. In the simulation of
``tests/unit/sampling/test_engine_shapes.py`` that keeps 94 to 99% of the slots in use with four to eight shapes that
arrive in any order, where running one shape at a time, and others once its line is empty, keeps 58 to 76%.
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

PATIENCE_STEPS = 1000
"""A sample that was queued so many steps ago makes its bucket late."""


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


@dataclass(frozen=True, slots=True)
class Finished(Generic[Job, Result]):
    """A sample that left the engine: with a result, or with the error that ended it alone."""

    sample: Sample[Job]
    result: Result | None = None
    error: SampleError | None = None


class Runner(Protocol[Job, Taken_co]):
    """The device side: what the engine drives."""

    def admit(self, sample: Sample[Job]) -> None:
        """Write a sample into its lanes, of ``batch_lanes`` that its shape has.

        Raises:
            SampleError: This sample cannot run; the others are not affected.
        """

    def advance(self, running: Sequence[Sample[Job]]) -> None:
        """Take one step with all lanes of a shape; ``running`` names the samples in them."""

    def take(self, sample: Sample[Job]) -> Taken_co:
        """Return the x_0 of a sample that took its last step; its lanes may be given away afterwards."""

    def drop(self, sample: Sample[Job]) -> None:
        """Set the lanes of a sample that will not go on to idle."""


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


class Engine(Generic[Job, Result]):
    """Keeps the lanes full."""

    def __init__(self, runner: Runner[Job, Result], num_lanes: int, *, patience_steps: int = PATIENCE_STEPS) -> None:
        """Drive ``runner``; shapes have ``num_lanes`` lanes unless ``resize`` says otherwise."""
        self._runner = runner
        self._num_lanes = num_lanes
        self._patience_steps = patience_steps
        self._buckets: dict[Hashable, Bucket[Job]] = {}
        self._turn: Bucket[Job] | None = None
        self._ended: list[Finished[Job, Result]] = []  # outlives a step that the device fails
        self.steps = 0
        """Steps taken so far, each by the lanes of one shape."""
        self.full_steps = 0.0
        """What they would have been with every lane in use."""

    @property
    def waiting(self) -> int:
        """How many samples have no lanes yet."""
        return sum(len(bucket.waiting) for bucket in self._buckets.values())

    @property
    def running(self) -> int:
        """How many samples have lanes; those of one shape advance in a step."""
        return sum(len(bucket.running) for bucket in self._buckets.values())

    @property
    def lanes_in_use(self) -> int:
        """How many lanes hold a running sample."""
        return sum(bucket.lanes_in_use for bucket in self._buckets.values())

    def runs(self, shape: Hashable) -> bool:
        """Return whether a sample of this shape is in its lanes."""
        bucket = self._buckets.get(shape)
        return bucket is not None and bool(bucket.running)

    def lanes_of(self, shape: Hashable) -> int:
        """Return how many lanes the batch of a shape has."""
        bucket = self._buckets.get(shape)
        return self._num_lanes if bucket is None else bucket.num_lanes

    def resize(self, shape: Hashable, num_lanes: int) -> None:
        """Give a shape so many lanes; what runs in them begins anew."""
        if num_lanes != self.lanes_of(shape):
            self._bucket(shape).start_anew(num_lanes)

    def submit(self, sample: Sample[Job]) -> None:
        """Queue a sample.

        Raises:
            ValueError: It needs more lanes than there are, or no step.
        """
        bucket = self._bucket(sample.shape)
        if not 1 <= sample.num_lanes <= bucket.num_lanes or sample.num_steps < 1:
            raise ValueError(
                f"a sample must need 1 to {bucket.num_lanes} lanes and at least 1 step, "
                f"got {sample.num_lanes} lanes and {sample.num_steps} steps"
            )
        sample.queued_at = self.steps
        bucket.queue(sample)

    def step(self) -> list[Finished[Job, Result]]:
        """Advance the samples of one shape by one timestep; return those that ended: at x_0, or refused."""
        if (bucket := self._next()) is not None:
            self._turn = bucket
            self._admit(bucket)
            self._advance(bucket)
            self._retire(bucket)
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, sample: Sample[Job]) -> None:
        """Forget a sample, between two steps; its lanes are free for the next step."""
        bucket = self._bucket(sample.shape)
        if sample in bucket.running:
            self._runner.drop(sample)
            bucket.leave(sample)
        elif sample in bucket.waiting:
            bucket.leave(sample)

    def abort(self, *, waiting: bool = False) -> list[Sample[Job]]:
        """Forget the samples that shared the failed step, and return them; those of other shapes begin anew.

        The runner has lost its state, and is not told. With ``waiting``, those in line for the same lanes are lost too.
        """
        assert self._turn is not None
        lost = [*self._turn.running, *(self._turn.waiting if waiting else ())]
        for sample in lost:
            self._turn.leave(sample)
        self.restart()
        return lost

    def restart(self) -> None:
        """Have all running samples begin anew, first in line: the runner has lost its state."""
        for bucket in self._buckets.values():
            bucket.start_anew(bucket.num_lanes)

    @property
    def turn(self) -> Hashable:
        """The shape that the last step was taken with, or tried."""
        return None if self._turn is None else self._turn.shape

    def _bucket(self, shape: Hashable) -> Bucket[Job]:
        if shape not in self._buckets:
            self._buckets[shape] = Bucket(shape, self._num_lanes)
        return self._buckets[shape]

    def _next(self) -> Bucket[Job] | None:
        """Return the bucket whose turn it is: of late ones that which has waited longest, else the fullest."""
        busy = [bucket for bucket in self._buckets.values() if bucket.running or bucket.waiting]
        late = [bucket for bucket in busy if self.steps - bucket.oldest >= self._patience_steps]
        if late:
            return min(late, key=lambda bucket: bucket.advanced_at)
        return max(busy, key=lambda bucket: (bucket.fill, -bucket.oldest), default=None)

    def _admit(self, bucket: Bucket[Job]) -> None:
        while (sample := bucket.next()) is not None:  # it runs before anything can fail, so that abort() knows it
            try:
                self._runner.admit(sample)
            except SampleError as error:
                bucket.leave(sample)
                self._ended.append(Finished(sample, error=error))

    def _advance(self, bucket: Bucket[Job]) -> None:
        if not bucket.running:  # all of them were refused
            return
        self._runner.advance(bucket.running)
        self.steps += 1
        self.full_steps += bucket.lanes_in_use / bucket.num_lanes
        bucket.advanced_at = self.steps
        for sample in bucket.running:
            sample.steps_done += 1

    def _retire(self, bucket: Bucket[Job]) -> None:
        done = [sample for sample in bucket.running if sample.steps_done == sample.num_steps]
        finished = [Finished(sample, self._runner.take(sample)) for sample in done]
        for sample in done:
            bucket.leave(sample)
        self._ended += finished
