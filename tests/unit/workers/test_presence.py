"""What a worker counts."""

from __future__ import annotations

import time

import pytest

from ddim_core.contracts.sample import Counters
from workers import presence
from workers.presence import Meter, occupancy_since


def test_a_meter_tells_the_rate_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over half a minute, so that a worker that stopped does not shine by its past."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    meter = Meter()
    for _ in range(60):
        meter.add()
    now += 10
    assert meter.read() == (60, 6.0)
    now += presence.RATE_WINDOW_S
    meter.read()
    now += presence.RATE_WINDOW_S
    assert meter.read() == (60, 0.0)


def test_occupancy_is_that_of_the_steps_since_the_last_report() -> None:
    """Of no steps nought; and figures that begin anew, as another checkpoint was loaded, are no step back."""
    before, now = Counters(steps=10, full_steps=10.0), Counters(steps=14, full_steps=12.0)
    assert occupancy_since(before, now) == 0.5
    assert occupancy_since(now, now) == 0.0
    assert occupancy_since(now, Counters(steps=4, full_steps=3.0)) == 0.75
