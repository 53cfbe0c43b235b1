"""When the watchdog bites."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import redis

from workers.board import Board
from workers.watchdog import IDLE_CHECKS, STALLED_CHECKS, Watchdog

Answer = TypeVar("Answer")


class Waiting(Board):
    """A board on which so many messages wait."""

    def __init__(self, count: int) -> None:
        self.count = count

    def ask(self, question: Callable[[redis.Redis], Answer], *, otherwise: Answer) -> Answer:
        """Answer every question with the number."""
        return cast(Answer, self.count)


def bites(count: int, *, busy: bool = False, moving: bool = False, checks: int = 2 * IDLE_CHECKS) -> tuple[int, int]:
    """Return how often the watchdog asks for a restart and for an abort in so many checks."""
    asked: list[str] = []
    watchdog = Watchdog(
        Waiting(count), "queue", restart=lambda: asked.append("restart"), abort=lambda: asked.append("abort")
    )
    for number in range(checks):
        watchdog.check(busy=busy, received=number if moving else 3, done=0)
    return asked.count("restart"), asked.count("abort")


def test_a_worker_that_gets_nothing_from_a_full_queue_is_restarted_once() -> None:
    """Its consumer is dead and does not know."""
    assert bites(5) == (1, 0)


def test_a_worker_with_an_empty_queue_or_work_in_hand_is_left_alone() -> None:
    """A chunk may take longer than a minute."""
    assert bites(0) == (0, 0)
    assert bites(5, busy=True) == (0, 0)


def test_a_worker_that_gets_messages_is_left_alone() -> None:
    """Also one that refuses them all and holds none when it is looked at."""
    assert bites(5, moving=True) == (0, 0)


def test_a_device_that_makes_no_step_for_half_an_hour_is_given_up() -> None:
    """With chunks in hand; nothing orderly is possible any more."""
    assert bites(0, busy=True, checks=2 * STALLED_CHECKS) == (0, 1)
    assert bites(0, busy=True, moving=True, checks=2 * STALLED_CHECKS) == (0, 0)
    assert bites(0, checks=2 * STALLED_CHECKS) == (0, 0)
