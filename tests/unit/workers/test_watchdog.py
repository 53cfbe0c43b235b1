"""When the watchdog bites."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import redis

from workers.board import Board
from workers.watchdog import PATIENCE_CHECKS, Watchdog

Answer = TypeVar("Answer")


class Waiting(Board):
    """A board on which so many messages wait."""

    def __init__(self, count: int) -> None:
        self.count = count

    def ask(self, question: Callable[[redis.Redis], Answer], *, otherwise: Answer) -> Answer:
        """Answer every question with the number."""
        return cast(Answer, self.count)


def bites(count: int, received: Callable[[], int], *, busy: bool = False) -> int:
    """Return how often the watchdog asks for a restart in twice its patience."""
    restarts: list[bool] = []
    watchdog = Watchdog(Waiting(count), "queue", received, lambda: restarts.append(True))
    for _ in range(2 * PATIENCE_CHECKS):
        watchdog.check(busy=busy)
    return len(restarts)


def test_a_worker_that_gets_nothing_from_a_full_queue_is_restarted_once() -> None:
    """Its consumer is dead and does not know."""
    assert bites(5, lambda: 3) == 1


def test_a_worker_with_an_empty_queue_or_work_in_hand_is_left_alone() -> None:
    """However long a chunk takes."""
    assert bites(0, lambda: 3) == 0
    assert bites(5, lambda: 3, busy=True) == 0


def test_a_worker_that_gets_messages_is_left_alone() -> None:
    """Also one that refuses them all and holds none when it is looked at."""
    counter = iter(range(100))
    assert bites(5, lambda: next(counter)) == 0
