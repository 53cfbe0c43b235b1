"""When a process is started again, and when its device is given up."""

from __future__ import annotations

import pytest

from workers.supervisor.restarts import MAX_DEATHS, STABLE_S, TRIAL_SHARE, Restarts


@pytest.mark.parametrize(("lived_s", "worked"), [(5.0, True), (STABLE_S, False)])
def test_a_process_that_worked_or_lived_long_is_started_again_at_once(lived_s: float, worked: bool) -> None:
    """Its death says nothing of its device, and those before it count no more."""
    restarts = Restarts(deaths=MAX_DEATHS - 1)
    assert not restarts.died(lived_s=lived_s, worked=worked, tried=False)
    assert (restarts.deaths, restarts.pause_s) == (1, 1.0)


def test_deaths_on_trial_cost_no_pause_and_count_little() -> None:
    """A chunk of killers must cost the fleet neither minutes nor a device."""
    restarts = Restarts()
    for _ in range(TRIAL_SHARE * MAX_DEATHS - 1):
        assert not restarts.died(lived_s=3.0, worked=False, tried=True)
        assert restarts.pause_s == 1.0
    assert restarts.died(lived_s=3.0, worked=False, tried=True)


def test_deaths_of_both_kinds_add_up() -> None:
    """A device that neither starts well nor survives a trial is given up sooner."""
    restarts = Restarts(max_deaths=2)
    assert not restarts.died(lived_s=3.0, worked=False, tried=False)
    for _ in range(TRIAL_SHARE - 1):
        assert not restarts.died(lived_s=3.0, worked=False, tried=True)
    assert restarts.died(lived_s=3.0, worked=False, tried=True)
