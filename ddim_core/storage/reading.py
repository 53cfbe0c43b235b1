"""Small objects read a few at once: a store's delay, not its bandwidth, sets the pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

READERS = 16
_WINDOW = 2 * READERS
"""Answers in memory."""

Answer = TypeVar("Answer")


def read_ahead(read: Callable[[int], Answer], chunks: Iterable[int]) -> Iterator[Answer]:
    """Yield what ``read`` returns for each chunk, in their order, with the next few under way.

    Whatever ``read`` raises is raised in its place.
    """
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="read-ahead")
    begun: deque[Future[Answer]] = deque()
    try:
        for chunk in chunks:
            begun.append(pool.submit(read, chunk))
            if len(begun) >= _WINDOW:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
