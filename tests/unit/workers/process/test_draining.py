"""How a worker process ends when it is asked to."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

import pytest

from workers.process import draining
from workers.process.draining import Drain
from workers.settings import GIVE_BACK_SIGNAL

PATIENCE_S = 10.0


class Steps:
    """What was done, in its order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.left = threading.Event()

    def drain(self, timeout_s: float) -> Drain:
        """Return a drain that notes its steps."""
        return Drain(
            timeout_s, stop_taking=self._note("stop taking"), give_back=self._note("give back"), leave=self._leave
        )

    def _note(self, step: str) -> Callable[[], None]:
        return lambda: self.done.append(step)

    def _leave(self, code: int) -> None:
        self.done.append(f"leave with {code}")
        self.left.set()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as briefly as can be for chunks to be given back."""
    monkeypatch.setattr(draining, "GIVE_BACK_S", 0.01)
    monkeypatch.setattr(draining, "_NAP_S", 0.01)


def test_what_is_not_finished_in_time_is_given_back_and_the_process_ends() -> None:
    """With exit code 0: it did as it was told."""
    steps = Steps()
    steps.drain(0.05).on_signal(signal.SIGTERM)
    assert steps.left.wait(PATIENCE_S)
    assert steps.done == ["stop taking", "give back", "leave with 0"]


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGINT), (GIVE_BACK_SIGNAL,)])
def test_a_second_signal_or_the_launchers_own_ends_the_wait(signals: tuple[signal.Signals, ...]) -> None:
    """Whoever switches a host off in a hurry does not wait for half an hour."""
    steps = Steps()
    drain = steps.drain(3600)
    for number in signals:
        drain.on_signal(number)
    assert steps.left.wait(PATIENCE_S)
    assert steps.done == ["stop taking", "give back", "leave with 0"]


def test_a_process_that_ends_to_be_restarted_still_takes_a_signal_for_the_first() -> None:
    """It drains already, because its device failed; the operator's signal must not have the rest given back."""
    steps = Steps()
    drain = steps.drain(3600)
    drain.begin()
    drain.on_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert steps.done == ["stop taking"]
    drain.on_signal(signal.SIGTERM)
    assert steps.left.wait(PATIENCE_S)
