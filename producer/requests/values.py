"""Values of NumPy, pandas, Arrow and the standard library as the plain ones that requests are checked as."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal
from enum import Enum
from functools import singledispatch
from os import PathLike, fspath
from typing import Any, Final
from uuid import UUID

MAX_DEPTH = 50
"""What is nested deeper is no request; a list that holds itself has no end."""


class _Absent:
    """The type of what is not there."""

    def __repr__(self) -> str:
        return "nothing"


class _Unshown:
    """What stands for a value that fails to be shown."""

    def __init__(self, value: object) -> None:
        self._kind = type(value).__name__

    def __repr__(self) -> str:
        return f"a value of type {self._kind}"


ABSENT: Final = _Absent()
"""What a cell holds that holds nothing: None, NaN, NaT or NA."""

_MISSING = ("NAType", "NaTType")
"""Names of pandas' classes, which is not imported for their sake."""


def plain_value(value: Any, depth: int = 0) -> Any:
    """Return a value in Python's own types, or ``ABSENT``; what has no such form stays, to be refused by who checks it.

    Arrays and tuples become lists, mappings dicts without what is absent in them. A set has no order and a generator
    is gone once read: both stay.
    """
    kind = type(value)
    if kind in (str, int, bool):
        return value
    if value is None or kind.__name__ in _MISSING:
        return ABSENT
    # Nothing takes what is nested too deeply.
    return _converted(value, depth) if depth <= MAX_DEPTH else ...


@singledispatch
def _converted(value: Any, depth: int) -> Any:
    """Return a value that is not Python's plain own; of a library's class, by what such classes have in common."""
    if hasattr(value, "as_py"):  # a scalar of Arrow
        return plain_value(value.as_py(), depth + 1)
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # NumPy's, pandas' and any library's of arrays
        inner = value.tolist()
        if type(inner) is not type(value):
            return plain_value(inner, depth + 1)
    try:
        repr(value)
    except Exception:  # whoever refuses it wants to show it
        return _Unshown(value)
    return value


@_converted.register
def _(value: Mapping, depth: int) -> Any:  # type: ignore[type-arg]
    items = ((_name(name), plain_value(item, depth + 1)) for name, item in value.items())
    return {name: item for name, item in items if item is not ABSENT}


@_converted.register(list)
@_converted.register(tuple)
def _(value: Any, depth: int) -> Any:
    return [_element(item, depth + 1) for item in value]


@_converted.register
def _(value: Enum, depth: int) -> Any:
    return plain_value(value.value, depth + 1)


@_converted.register
def _(value: Decimal, depth: int) -> Any:
    if value.is_nan():
        return ABSENT
    return int(value) if value.is_finite() and value.as_tuple().exponent == 0 else float(value)


@_converted.register(date)
@_converted.register(time)
def _(value: date | time, depth: int) -> Any:
    return value.isoformat()


@_converted.register
def _(value: UUID, depth: int) -> Any:
    return str(value)


@_converted.register
def _(value: PathLike, depth: int) -> Any:  # type: ignore[type-arg]
    return plain_value(fspath(value), depth + 1)


@_converted.register
def _(value: float, depth: int) -> Any:
    return ABSENT if math.isnan(value) else float(value)


@_converted.register(int)
def _(value: int, depth: int) -> Any:
    return int(value)


@_converted.register(str)
def _(value: str, depth: int) -> Any:
    return str.__str__(value)  # NumPy's, of which str() may make something else


def _name(name: Any) -> Any:
    """Return a mapping's key as plain text where it is text."""
    name = name.value if isinstance(name, Enum) else name
    return str.__str__(name) if isinstance(name, str) else name


def _element(value: Any, depth: int) -> Any:
    """Return an element of a list, where nothing can be left out."""
    plain = plain_value(value, depth)
    if plain is not ABSENT:
        return plain
    return None if value is None else math.nan
