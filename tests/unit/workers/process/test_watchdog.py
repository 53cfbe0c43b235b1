"""When the watchdog bites."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

import pytest
import redis

from workers.coordination.connection import Board
from workers.process.watchdog import ALARM_MARGIN_S, IDLE_S, LOADING_S, Watchdog, check_interval_s

Answer = TypeVar("Answer")


class Waiting(Board):
    """A board on which so many messages wait."""

    def __init__(self, count: int) -> None:
        self.count = count

    def ask(self, question: Callable[[redis.Redis], Answer], *, otherwise: Answer) -> Answer:
        """Answer every question with the number."""
        return cast(Answer, self.count)


@dataclass
class Watched:
    """A process that is looked at every second, and what was asked of it."""

    waiting: int = 0
    stall_timeout_s: float = LOADING_S
    asked: list[str] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.watchdog = Watchdog(
            Waiting(self.waiting),
            "queue",
            stall_timeout_s=self.stall_timeout_s,
            restart=lambda: self.asked.append("restart"),
            abort=lambda: self.asked.append("abort"),
            clock=lambda: self.now,
        )

    def live(self, seconds: float, *, on_device: bool = False, busy: bool = False, moving: str = "") -> list[str]:
        """Go on for a while; return what was asked for in the end."""
        for _ in range(int(seconds)):
            self.now += 1
            received = int(self.now) if moving == "received" else 3
            done = int(self.now) if moving == "done" else 0
            self.watchdog.check(on_device=on_device, busy=busy or on_device, received=received, done=done)
        return self.asked


def test_a_worker_that_gets_nothing_from_a_full_queue_is_restarted_once() -> None:
    """Its consumer is dead and does not know."""
    watched = Watched(waiting=5)
    assert watched.live(IDLE_S - 1) == []
    assert watched.live(10 * IDLE_S) == ["restart"]


def test_a_worker_with_an_empty_queue_or_work_in_hand_is_left_alone() -> None:
    """A chunk may take longer than a minute."""
    assert Watched(waiting=0).live(10 * IDLE_S) == []
    assert Watched(waiting=5).live(10 * IDLE_S, busy=True) == []


def test_a_worker_that_gets_messages_is_left_alone() -> None:
    """Also one that refuses them all and holds none when it is looked at."""
    assert Watched(waiting=5).live(10 * IDLE_S, moving="received") == []


def test_a_process_that_loads_or_stores_for_half_an_hour_is_given_up() -> None:
    """However short the timeout of its device is: compiling takes minutes; nothing orderly is possible any more."""
    watched = Watched(stall_timeout_s=3)
    assert watched.live(LOADING_S, busy=True) == []
    assert watched.live(LOADING_S, busy=True) == ["abort"]
    assert Watched().live(2 * LOADING_S, busy=True, moving="done") == []
    assert Watched().live(2 * LOADING_S) == []


def test_a_device_that_stands_still_with_images_on_it_is_given_up_after_its_timeout() -> None:
    """Counted from its last step, or from the first image after a pause; what it loaded before does not count."""
    watched = Watched(stall_timeout_s=5)
    watched.live(100, busy=True)
    watched.live(100, on_device=True, moving="done")
    assert watched.live(5, on_device=True) == []
    assert watched.live(1, on_device=True) == ["abort"]


def test_messages_that_come_are_no_step_of_the_device() -> None:
    """A process holds several chunks; the others of a stuck device may be dropped one after the other."""
    assert Watched(stall_timeout_s=5).live(20, on_device=True, moving="received") == ["abort"]


def test_a_device_that_hangs_while_its_process_drains_is_given_up_too() -> None:
    """Or the restart that the watchdog itself asked for would never come."""
    watched = Watched(waiting=5, stall_timeout_s=5)
    watched.live(IDLE_S + 1)
    assert watched.live(10, on_device=True) == ["restart", "abort"]


@pytest.mark.parametrize(("stall_timeout_s", "interval_s"), [(1800.0, 10.0), (2.0, 0.5)])
def test_a_short_timeout_is_not_overrun_by_much(stall_timeout_s: float, interval_s: float) -> None:
    """Checks come often enough."""
    assert check_interval_s(stall_timeout_s) == interval_s


def test_the_alarm_is_later_than_any_timeout() -> None:
    """A native call may hold the interpreter's lock while it compiles."""
    assert Watched(stall_timeout_s=3).watchdog.alarm_s == LOADING_S + ALARM_MARGIN_S
    assert Watched(stall_timeout_s=9000).watchdog.alarm_s == 9000 + ALARM_MARGIN_S


def test_a_hang_that_lets_no_thread_run_is_ended_by_the_kernel() -> None:
    """A native call that holds the interpreter's lock: not even the watchdog's own thread gets to look."""
    program = (
        "import ctypes, threading\n"
        "from workers.process.watchdog import set_alarm\n"
        "threading.Thread(target=set_alarm, args=(0.4,)).start()\n"
        "ctypes.PyDLL(None).sleep(60)\n"  # unlike CDLL, it keeps the lock
    )
    began = time.monotonic()
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGALRM
    assert time.monotonic() - began < 30
