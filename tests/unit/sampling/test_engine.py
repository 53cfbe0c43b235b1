"""The engine's policy, driven by a runner that only takes notes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest

from ddim_core.errors import SampleError
from ddim_core.sampling.bucket import Sample
from ddim_core.sampling.engine import Engine, Finished


class _NotingRunner:
    """Writes down what it is told; refuses the jobs it was told to refuse."""

    def __init__(self, refused: Sequence[str] = ()) -> None:
        self.refused = refused
        self.notes: list[tuple[str, Any]] = []
        self.batches: list[list[str]] = []
        self.failure: Exception | None = None

    def admit(self, sample: Sample[str]) -> None:
        if sample.job in self.refused:
            raise SampleError(f"no {sample.job}")
        self.notes.append(("admit", (sample.job, sample.lanes)))

    def advance(self, running: Sequence[Sample[str]]) -> None:
        if self.failure is not None:
            raise self.failure
        assert len({sample.shape for sample in running}) == 1
        lanes = [lane for sample in running for lane in sample.lanes]
        assert len(lanes) == len(set(lanes))
        self.batches.append([sample.job for sample in running])

    def take(self, sample: Sample[str]) -> str:
        return f"x0 of {sample.job}"

    def drop(self, sample: Sample[str]) -> None:
        self.notes.append(("drop", (sample.job, sample.lanes)))


def sample(job: str, steps: int, lanes: int = 1, shape: str = "small") -> Sample[str]:
    return Sample(job=job, shape=shape, num_lanes=lanes, num_steps=steps)


def run(engine: Engine[str, str], most: int = 1000) -> list[Finished[str, str]]:
    finished: list[Finished[str, str]] = []
    while engine.waiting or engine.running:
        finished += engine.step()
        most -= 1
        assert most, "the engine does not come to an end"
    return finished


def test_a_sample_is_advanced_exactly_as_often_as_it_has_steps() -> None:
    """The step count alone decides when a sample is done; nobody asks the device."""
    runner = _NotingRunner()
    engine = Engine(runner, num_lanes=4)
    for job, steps in {"a": 3, "b": 1, "c": 5}.items():
        engine.submit(sample(job, steps))
    finished = run(engine)
    assert {job: sum(job in batch for batch in runner.batches) for job in "abc"} == {"a": 3, "b": 1, "c": 5}
    assert [f.sample.job for f in finished] == ["b", "a", "c"]
    assert [f.result for f in finished] == ["x0 of b", "x0 of a", "x0 of c"]


def test_a_freed_lane_is_reused_on_the_next_step() -> None:
    """Continuous batching: the next sample does not wait for the whole batch."""
    runner = _NotingRunner()
    engine = Engine(runner, num_lanes=2)
    for job, steps in {"short": 1, "long": 3, "next": 1}.items():
        engine.submit(sample(job, steps))
    run(engine)
    assert runner.batches == [["short", "long"], ["long", "next"], ["long"]]


def test_a_samples_time_runs_from_its_admission() -> None:
    """How long a picture took does not depend on how long the queue before it was."""
    engine = Engine(_NotingRunner(), num_lanes=1)
    first, second = sample("a", 1), sample("b", 1)
    engine.submit(first)
    engine.submit(second)
    engine.step()
    between = time.monotonic()
    assert (0 < first.admitted_s <= between, second.admitted_s) == (True, 0.0)
    engine.step()
    assert between <= second.admitted_s <= time.monotonic()


def test_a_sample_with_guidance_holds_two_lanes() -> None:
    """One conditional and one unconditional row; a sample without guidance takes one."""
    runner = _NotingRunner()
    engine = Engine(runner, num_lanes=3)
    engine.submit(sample("guided", 2, lanes=2))
    engine.submit(sample("plain", 1, lanes=1))
    engine.submit(sample("waits", 1, lanes=2))
    engine.step()
    assert [note for _, note in runner.notes] == [("guided", (0, 1)), ("plain", (2,))]
    assert engine.lanes_in_use == 2
    engine.step()
    assert [note for _, note in runner.notes][2:] == []
    engine.step()
    assert [note for _, note in runner.notes][2:] == [("waits", (0, 1))]


def test_first_come_first_served_within_a_shape() -> None:
    """A big sample is not starved by small ones that would fit beside those that run."""
    runner = _NotingRunner()
    engine = Engine(runner, num_lanes=2)
    for name, lanes in [("a", 1), ("big", 2), ("b", 1)]:
        engine.submit(sample(name, 2, lanes=lanes))
    run(engine)
    assert runner.batches == [["a"], ["a"], ["big"], ["big"], ["b"], ["b"]]


def test_a_refused_sample_fails_alone() -> None:
    """An error on admission ends that sample, and its lanes go to the next."""
    runner = _NotingRunner(refused=["bad"])
    engine = Engine(runner, num_lanes=2)
    for name in ("good", "bad", "fine"):
        engine.submit(sample(name, 1))
    finished = engine.step()
    assert [(f.sample.job, f.result, str(f.error)) for f in finished] == [
        ("bad", None, "no bad"),
        ("good", "x0 of good", "None"),
        ("fine", "x0 of fine", "None"),
    ]
    assert engine.lanes_in_use == 0


def test_a_cancelled_sample_frees_its_lanes_for_the_next_step() -> None:
    """Cancelling works between two steps, for running and for waiting samples."""
    runner = _NotingRunner()
    engine = Engine(runner, num_lanes=2)
    running, waiting, last = sample("running", 9, lanes=2), sample("waiting", 9, lanes=2), sample("last", 1, lanes=2)
    for each in (running, waiting, last):
        engine.submit(each)
    engine.step()
    engine.cancel(running)
    engine.cancel(waiting)
    engine.cancel(waiting)
    assert [f.sample for f in engine.step()] == [last]
    assert ("drop", ("running", (0, 1))) in runner.notes


def test_after_a_device_failure_the_waiting_samples_go_on() -> None:
    """abort() gives back those that shared the failed step, in admission order, and all lanes."""
    runner = _NotingRunner()
    engine = Engine(runner, num_lanes=2)
    for name in ("a", "b", "c"):
        engine.submit(sample(name, 2))
    engine.step()
    runner.failure = RuntimeError("device")
    with pytest.raises(RuntimeError, match="device"):
        engine.step()
    assert [s.job for s in engine.abort()] == ["a", "b"]
    assert engine.lanes_in_use == 0
    runner.failure = None
    assert [f.sample.job for f in run(engine)] == ["c"]


def test_a_refusal_survives_a_device_failure_in_the_same_step() -> None:
    """Whoever waits for the refused sample must hear of it, if only a step later."""
    runner = _NotingRunner(refused=["bad"])
    engine = Engine(runner, num_lanes=2)
    engine.submit(sample("bad", 1))
    engine.submit(sample("good", 1))
    runner.failure = RuntimeError("device")
    with pytest.raises(RuntimeError, match="device"):
        engine.step()
    assert [s.job for s in engine.abort()] == ["good"]
    assert [f.sample.job for f in engine.step()] == ["bad"]


def test_a_sample_that_fails_the_device_on_admission_is_not_lost() -> None:
    """Whatever admission raises, abort() knows the sample."""

    class _FailingRunner(_NotingRunner):
        def admit(self, sample: Sample[str]) -> None:
            raise RuntimeError("no memory")

    engine = Engine(_FailingRunner(), num_lanes=2)
    engine.submit(sample("a", 1, lanes=2))
    with pytest.raises(RuntimeError, match="no memory"):
        engine.step()
    assert [s.job for s in engine.abort()] == ["a"]
    assert engine.lanes_in_use == 0 and not engine.waiting


@pytest.mark.parametrize(("lanes", "steps"), [(0, 1), (3, 1), (1, 0)])
def test_a_sample_that_can_never_run_is_refused(lanes: int, steps: int) -> None:
    """It would wait for ever."""
    with pytest.raises(ValueError, match="1 to 2 lanes and at least 1 step"):
        Engine(_NotingRunner(), num_lanes=2).submit(sample("never", steps, lanes=lanes))


def test_a_step_with_nothing_to_do_does_not_touch_the_device() -> None:
    """An idle engine costs nothing."""
    runner = _NotingRunner()
    assert Engine(runner, num_lanes=2).step() == []
    assert runner.batches == []
