"""What a worker counts."""

from __future__ import annotations

import time

import pytest

from workers import presence
from workers.presence import Meter


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
