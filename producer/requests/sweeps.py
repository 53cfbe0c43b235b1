"""What varies over the requests of one row: the values that ``sweep`` gives a field, listed or as a range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ddim_core.contracts.kinds import KINDS
from ddim_core.contracts.request import Request
from ddim_core.schedule import PARAMETER_NAMES
from producer.requests.messages import got, known_field

EXPANSION_LIMIT = 100_000
"""Requests of one row: a range with a digit too many shall not become a million of them."""

_FIXED = ("prompt", "custom_id", "metadata", "scheduler", "num_images_per_prompt", *KINDS)
SWEEPABLE = tuple(name for name in Request.model_fields if name not in _FIXED)
"""Fields that may vary, besides ``scheduler.x``; prompts do by their lists."""
_FORMS = 'a list of values, {"range": [start, stop, step]} or {"linspace": [start, stop, count]}'

Number = int | float


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that varies, and its values in their order."""

    name: str
    """A field, as ``seed`` or ``scheduler.timestep_spacing``, or the name of a list that a prompt has a place for."""
    values: Sequence[Any]


def swept(name: str, given: Any) -> Axis:
    """Return what a sweep says of one field.

    Raises:
        ValueError: It cannot be understood; the message is the rule it breaks.
    """
    _check_name(name)
    if isinstance(given, Mapping) and len(given) == 1:
        ((form, numbers),) = given.items()
        if form == "range":
            return Axis(name, _range(numbers))
        if form == "linspace":
            return Axis(name, _linspace(numbers))
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"must be {_FORMS}, got {got(given)}")
    return Axis(name, _bounded(given))


def _check_name(name: str) -> None:
    outer, _, inner = str(name).partition(".")  # from Python, a name may be a number
    if outer == "scheduler" and inner:
        if inner not in PARAMETER_NAMES:
            raise ValueError(known_field(inner, PARAMETER_NAMES))
    elif name not in SWEEPABLE:
        raise ValueError(known_field(name, (*SWEEPABLE, "scheduler.x")))


def _range(numbers: Any) -> Sequence[Number]:
    """Return what Python's ``range`` holds, for fractions, too: ``stop`` is left out."""
    if not _are_numbers(numbers) or len(numbers) not in (2, 3) or (len(numbers) == 3 and numbers[2] == 0):
        raise ValueError(f"must be a range of [start, stop] or [start, stop, step], step not 0, got {got(numbers)}")
    if all(isinstance(number, int) for number in numbers):
        return _bounded(range(*numbers))
    start, stop, step = (*map(_exact, numbers), Fraction(1))[:3]
    count = max(0, -((start - stop) // step))
    if count > EXPANSION_LIMIT:
        raise ValueError(_too_many(count))
    return _bounded([float(start + step * i) for i in range(count)])


def _linspace(numbers: Any) -> Sequence[float]:
    """Return ``count`` numbers from ``start`` to ``stop``, both among them, as NumPy's ``linspace`` does."""
    if not _are_numbers(numbers) or len(numbers) != 3 or not isinstance(numbers[2], int) or numbers[2] < 2:
        raise ValueError(f"must be a linspace of [start, stop, count], count at least 2, got {got(numbers)}")
    start, stop, count = _exact(numbers[0]), _exact(numbers[1]), numbers[2]
    if count > EXPANSION_LIMIT:
        raise ValueError(_too_many(count))
    return [float(start + (stop - start) * i / (count - 1)) for i in range(count)]


def _exact(number: Number) -> Fraction:
    """Return the number as it was written: 0.1 is a tenth, so that ten steps of it are one."""
    return Fraction(str(number))


def _are_numbers(values: Any) -> bool:
    """Return whether this is a list of finite numbers."""
    return isinstance(values, Sequence) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf") for value in values
    )


def _bounded(values: Sequence[Any]) -> Sequence[Any]:
    if not values:
        raise ValueError("must have at least one value, got none")
    if len(values) > EXPANSION_LIMIT:
        raise ValueError(_too_many(len(values)))
    return values


def _too_many(count: int) -> str:
    return f"must have at most {EXPANSION_LIMIT} values, got {count}"
