"""Checks of single values that raise ScheduleError with the value's name, rule and, where one is known, the remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import SupportsFloat

import numpy as np

from ddim_core.errors import ScheduleError


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of real numbers; ``open_low`` and ``open_high`` say which ends it leaves out."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: SupportsFloat) -> bool:
        """Return whether ``value`` lies in the range."""
        real = float(value)
        above = real > self.low if self.open_low else real >= self.low
        below = real < self.high if self.open_high else real <= self.high
        return above and below

    def __str__(self) -> str:
        """Return the range as it reads after "must be"."""
        if math.isinf(self.high):
            return f"a finite number {'above' if self.open_low else 'of at least'} {self.low:g}"
        return f"a number in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


def flag(name: str, value: object) -> bool:
    """Return ``value`` if it is a bool."""
    if _is_bool(value):
        return bool(value)
    raise ScheduleError(f"{name} must be true or false, got {value!r:.80}")


def _is_bool(value: object) -> bool:
    return isinstance(value, (bool, np.bool_))  # NumPy's is no subclass of Python's, and Python's is an Integral


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``allowed``."""
    if isinstance(value, str) and value in allowed:
        return value
    raise ScheduleError(f"{name} must be one of {', '.join(allowed)}, got {value!r:.80}")


def whole(name: str, value: object, low: int, high: int) -> int:
    """Return ``value`` as an int if it is an integer from ``low`` to ``high``."""
    if isinstance(value, Integral) and not _is_bool(value) and low <= int(value) <= high:
        return int(value)
    raise ScheduleError(f"{name} must be a whole number from {low} to {high}, got {value!r:.80}")


def _is_finite(value: SupportsFloat) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int past the range of float
        return False


def number(name: str, value: object, allowed: Interval) -> float:
    """Return ``value`` as a float if it is a finite number within ``allowed``."""
    if isinstance(value, Real) and not _is_bool(value) and _is_finite(value) and value in allowed:
        return float(value)
    raise ScheduleError(f"{name} must be {allowed}, got {value!r:.80}")


def numbers(name: str, values: object, allowed: Interval) -> tuple[float, ...]:
    """Return ``values``, a list, tuple or 1-d array, as a tuple of floats within ``allowed``."""
    single = isinstance(values, (str, bytes)) or (isinstance(values, np.ndarray) and values.ndim == 0)
    if single or not isinstance(values, (Sequence, np.ndarray)):
        raise ScheduleError(f"{name} must be a list of numbers, got {values!r:.80}")
    return tuple(number(f"{name}[{i}]", value, allowed) for i, value in enumerate(values))
