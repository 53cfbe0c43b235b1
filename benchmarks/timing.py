"""Medians of repeated measurements, the two sides of a comparison taking turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def median_seconds(*sides: Callable[[], object], repeats: int = 5) -> list[float]:
    """Return the median wall time of each side, in seconds.

    The sides take turns, so that a noisy neighbour meets all of them; each runs once before anything is measured.
    """
    for side in sides:
        side()
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats):
        for side, measured in zip(sides, seconds, strict=True):
            measured.append(seconds_of(side))
    return [statistics.median(measured) for measured in seconds]


def seconds_of(side: Callable[[], object]) -> float:
    """Return the wall time of one call, in seconds."""
    began = time.perf_counter()
    side()
    return time.perf_counter() - began
