"""What a worker counts."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from ddim_core.contracts.plan import ModelRef
from ddim_core.contracts.sample import Counters
from tests.unit.workers.samples import FACTS, ScriptedSampler, loaded
from workers.coordination.connection import Board
from workers.meter import RATE_WINDOW_S, Meter
from workers.process.presence import Presence, occupancy_since
from workers.samplers.samplers import Load, LoadedSampler, Samplers


def test_a_meter_tells_the_rate_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over half a minute, so that a worker that stopped does not shine by its past."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    meter = Meter()
    for _ in range(60):
        meter.add(made=True)
    now += 10
    assert meter.read() == (60, 6.0)
    now += RATE_WINDOW_S
    meter.read()
    now += RATE_WINDOW_S
    assert meter.read() == (60, 0.0)


def test_the_time_of_compiling_is_no_part_of_a_workers_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten images in ten seconds are one a second, though half a minute went by before the first."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    meter = Meter()
    one = Presence(Board("redis://127.0.0.1:1/0"), "w", "sim:0", meter, chunks=tuple, samplers=Samplers(_no_sampler))
    now = 1025.0
    one.report()
    one.say("ready")
    for _ in range(10):
        meter.add(made=True)
    now = 1035.0
    one.report()
    assert one.latest.images_per_s == 1.0


def _no_sampler(_: ModelRef) -> Load:
    raise AssertionError("nothing is sampled here")


def test_occupancy_is_that_of_the_steps_since_the_last_report() -> None:
    """Of no steps nought; and figures that begin anew, as another checkpoint was loaded, are no step back."""
    before, now = Counters(steps=10, full_steps=10.0), Counters(steps=14, full_steps=12.0)
    assert occupancy_since(before, now) == 0.5
    assert occupancy_since(now, now) == 0.0
    assert occupancy_since(now, Counters(steps=4, full_steps=3.0)) == 0.75


def test_a_worker_that_compiles_for_a_run_says_so() -> None:
    """Ready, it would look as if it did nothing; while it starts or drains, that is the news."""
    states: list[str] = []

    def load() -> LoadedSampler:
        states.append(one.latest.state)
        for state in ("ready", "draining", "ready"):
            one.say(state)
            states.append(one.latest.state)
        return loaded(ScriptedSampler())

    samplers = Samplers(lambda _: load)
    one = Presence(Board("redis://127.0.0.1:1/0"), "w", "sim:0", Meter(), chunks=tuple, samplers=samplers)
    with samplers.use(ModelRef(name="m", digest="d", scheduler={})):
        one.report()
    assert [*states, one.latest.state] == ["starting", "compiling", "draining", "compiling", "ready"]


def test_a_worker_says_which_kernels_its_rows_name() -> None:
    """Nothing before a checkpoint is loaded, as it is the loading that finds out."""
    versions = json.dumps({"ddim-fleet": "1", "kernels": "fused-1"})
    sampler = LoadedSampler(ScriptedSampler(), dataclasses.replace(FACTS, versions=versions))
    samplers = Samplers(lambda _: lambda: sampler)
    one = Presence(Board("redis://127.0.0.1:1/0"), "w", "cpu:0", Meter(), chunks=tuple, samplers=samplers)
    assert one.latest.kernels == ""
    with samplers.use(ModelRef(name="m", digest="d", scheduler={})):
        one.report()
    assert one.latest.kernels == "fused-1"
