"""Small objects read a few at once: a store's delay, not its bandwidth, sets the pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

READERS = 16
_WINDOW = 2 * READERS
"""Answers in memory."""

Answer = TypeVar("Answer")


def read_ahead(read: Callable[[int], Answer], chunks: Iterable[int]) -> Iterator[Answer]:
    """Yield what ``read`` returns for each chunk, in their order, with the next few under way.

    Whatever ``read`` raises is raised in its place.
    """
    return at_once((partial(read, chunk) for chunk in chunks), READERS, _WINDOW)


def at_once(tasks: Iterable[Callable[[], Answer]], threads: int, window: int) -> Iterator[Answer]:
    """Yield what the tasks return, in their order, with as many of them begun as there are ``threads``.

    At most ``window`` answers wait to be taken. Whatever a task raises is raised in its place.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    begun: deque[Future[Answer]] = deque()
    try:
        for task in tasks:
            begun.append(pool.submit(task))
            if len(begun) >= window:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
