"""Buckets of shapes: who takes turns, how full the lanes stay, how long anyone waits; measured in a simulation."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from ddim_core.sampling.bucket import Sample
from ddim_core.sampling.engine import PATIENCE_STEPS, Engine

LANES = 16
LOOKAHEAD = 2 * LANES
HELD = 64
"""Samples that two chunks in flight have between submission and encoding."""


class _Runner:
    """Notes which samples shared each step, and that they may."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def admit(self, sample: Sample[str]) -> None:
        pass

    def advance(self, running: Sequence[Sample[str]]) -> None:
        assert len({sample.shape for sample in running}) == 1
        lanes = [lane for sample in running for lane in sample.lanes]
        assert len(lanes) == len(set(lanes)) and max(lanes) < running[0].batch_lanes
        self.batches.append([sample.job for sample in running])

    def take(self, sample: Sample[str]) -> str:
        return sample.job

    def drop(self, sample: Sample[str]) -> None:
        pass


@dataclass(frozen=True)
class _Figures:
    occupancy: float
    """Over the steps before the last sample was queued: a run's tail is another matter."""
    longest_wait: int
    """In steps, from the queue to x_0."""


def simulate(samples: Sequence[Sample[str]]) -> _Figures:
    """Feed samples as a session does, as long as there is room, until all are done."""
    engine: Engine[str, str] = Engine(_Runner(), LANES)
    source, waits = deque(samples), []
    steps = full_steps = 0.0
    while source or engine.waiting or engine.running:
        while source and engine.waiting < LOOKAHEAD and engine.waiting + engine.running < HELD:
            engine.submit(source.popleft())
            steps, full_steps = engine.steps, engine.full_steps
        waits += [engine.steps - finished.sample.queued_at for finished in engine.step()]
    assert len(waits) == len(samples)
    return _Figures(full_steps / steps, max(waits))


def mixed(shapes: Sequence[int], count: int = 2000) -> list[Sample[str]]:
    """Return samples of shapes by their weights, in random order, most with guidance and of several step counts."""
    chance = random.Random(0)
    return [
        Sample(str(i), chance.choices(range(len(shapes)), shapes)[0], chance.choice((1, 2, 2, 2)), steps)
        for i, steps in enumerate(chance.choices((20, 30, 50), k=count))
    ]


@pytest.mark.parametrize(
    ("shapes", "occupancy"), [([1], 0.97), ([1] * 4, 0.97), ([1] * 8, 0.96), ([50, 20, 10, 5, 5, 5, 3, 2], 0.93)]
)
def test_sizes_in_any_order_keep_the_lanes_full(shapes: list[int], occupancy: float) -> None:
    """Eight sizes cost no more than one, since a bucket waits until its batch is worth a step; and nobody starves."""
    figures = simulate(mixed(shapes))
    assert figures.occupancy >= occupancy
    assert figures.longest_wait <= PATIENCE_STEPS + len(shapes) * 50


def test_nobody_starves_behind_an_endless_stream_of_another_shape() -> None:
    """A single sample of its shape never makes its bucket the fullest, and is made all the same."""
    samples = [Sample("one", "rare", 1, 50), *(Sample(str(i), "common", 2, 20) for i in range(4000))]
    runner = _Runner()
    engine: Engine[str, str] = Engine(runner, LANES)
    for sample in samples:
        engine.submit(sample)
    while engine.running or engine.waiting:
        engine.step()
    last = max(step for step, batch in enumerate(runner.batches) if batch == ["one"])
    assert PATIENCE_STEPS <= last <= PATIENCE_STEPS + 2 * 50


def test_late_shapes_take_turns_step_by_step() -> None:
    """A long sample that has waited for long does not hold up the short ones for all of its steps."""
    runner = _Runner()
    engine: Engine[str, str] = Engine(runner, LANES, patience_steps=0)
    for sample in (Sample("long", "a", 1, 100), Sample("short", "b", 1, 3), Sample("other", "c", 1, 3)):
        engine.submit(sample)
    for _ in range(9):
        engine.step()
    assert [batch[0] for batch in runner.batches] == ["long", "short", "other"] * 3


def test_a_shape_that_was_left_goes_on_where_it_was() -> None:
    """Switching between shapes costs no sample a step."""
    runner = _Runner()
    engine: Engine[str, str] = Engine(runner, num_lanes=4)
    for index in range(8):
        engine.submit(Sample(f"{'ab'[index % 2]}{index // 2}", index % 2, 1, 2 + index // 4))
    while engine.running or engine.waiting:
        engine.step()
    taken = {job: sum(job in batch for batch in runner.batches) for job in ("a0", "a1", "a2", "a3", "b0", "b3")}
    assert taken == {"a0": 2, "a1": 2, "a2": 3, "a3": 3, "b0": 2, "b3": 3}


def test_fewer_lanes_send_what_runs_back_to_the_head_of_its_line() -> None:
    """For want of memory: nothing is lost, the order stays, and every sample begins anew."""
    runner = _Runner()
    engine: Engine[str, str] = Engine(runner, num_lanes=4)
    for index in range(6):
        engine.submit(Sample(str(index), "a", 1, 2))
    engine.submit(Sample("b", "b", 1, 2))
    engine.step()
    engine.resize("a", 2)
    assert (engine.running, engine.waiting, engine.lanes_of("a"), engine.lanes_of("b")) == (0, 7, 2, 4)
    while engine.running or engine.waiting:
        engine.step()
    assert runner.batches[1:] == [["0", "1"]] * 2 + [["2", "3"]] * 2 + [["4", "5"]] * 2 + [["b"]] * 2


def test_after_a_failure_samples_of_other_shapes_begin_anew() -> None:
    """The runner has lost its state; those that shared the failed step are lost, and only those."""

    class _FailingRunner(_Runner):
        def advance(self, running: Sequence[Sample[str]]) -> None:
            if len(self.batches) == 3 and running[0].shape == "a":
                raise RuntimeError("device")
            super().advance(running)

    runner = _FailingRunner()
    engine: Engine[str, str] = Engine(runner, num_lanes=4, patience_steps=0)
    engine.submit(Sample("a", "a", 1, 4))
    engine.submit(Sample("b", "b", 1, 4))
    for _ in range(3):
        engine.step()
    engine._buckets["a"].advanced_at = 0
    with pytest.raises(RuntimeError, match="device"):
        engine.step()
    assert engine.turn == "a"
    assert [sample.job for sample in engine.abort()] == ["a"]
    ended = [engine.step() for _ in range(4)]
    assert [[finished.sample.job for finished in each] for each in ended] == [[], [], [], ["b"]]
