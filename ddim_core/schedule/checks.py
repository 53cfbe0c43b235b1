"""Checks of single values that raise ScheduleError with the value's name, rule and, where one is known, the remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, SupportsFloat, cast

from ddim_core.errors import ScheduleError


@dataclass(frozen=True, slots=True)
class Interval:
    """A range of real numbers; ``open_low`` and ``open_high`` say which ends it leaves out."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"a finite number {'above' if self.open_low else 'of at least'} {self.low:g}"
        return f"a number in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


def flag(name: str, value: object) -> bool:
    """Return ``value`` if it is a bool."""
    # NumPy's bool is no subclass of bool, and configurations computed with NumPy hold it.
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise ScheduleError(f"{name} must be true or false, got {value!r}")


def choice(name: str, value: object, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``allowed``."""
    if isinstance(value, str) and value in allowed:
        return value
    raise ScheduleError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def whole(name: str, value: object, low: int, high: int) -> int:
    """Return ``value`` as an int if it is an integer from ``low`` to ``high``."""
    if isinstance(value, Integral) and not isinstance(value, bool) and low <= value <= high:
        return int(value)
    raise ScheduleError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def number(name: str, value: object, allowed: Interval) -> float:
    """Return ``value`` as a float if it is a finite number within ``allowed``."""
    if isinstance(value, Real) and not isinstance(value, bool):
        as_float = float(cast(SupportsFloat, value))
        if math.isfinite(as_float) and as_float in allowed:
            return as_float
    raise ScheduleError(f"{name} must be {allowed}, got {value!r}")


def numbers(name: str, values: Any, allowed: Interval) -> tuple[float, ...]:
    """Return ``values``, a list, tuple or 1-d array, as a tuple of floats within ``allowed``."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__") or not hasattr(values, "__getitem__"):
        raise ScheduleError(f"{name} must be a list of numbers, got {values!r}")
    return tuple(number(f"{name}[{i}]", value, allowed) for i, value in enumerate(values))
