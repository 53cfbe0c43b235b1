"""Columns of tables: a field each, or one value within a field, as ``metadata.label``; or a count without a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ddim_core.contracts.kinds import KINDS
from ddim_core.errors import Fault
from producer.requests.messages import got, known_field
from producer.requests.rows import FIELDS, LISTS, SWEEP
from producer.requests.suggestions import suggested

OBJECTS = ("metadata", "scheduler", SWEEP, LISTS, *KINDS)
"""Fields that hold names and values; a column may hold one of them, as in ``scheduler.timestep_spacing``."""
SUBJECTS = ("prompt", "class_label", "num_images_per_prompt")
"""A table has one of them; with an unconditional model there is nothing to say but how many."""

_COLUMNS = (*FIELDS, *(f"{name}.x" for name in OBJECTS))
# What pandas calls an index that has no name: in CSV nothing, read back from that, and in Parquet.
_UNNAMED = re.compile(r"|Unnamed: \d+|__index_level_\d+__")


def is_unnamed(name: str) -> bool:
    """Return whether a column has no name of its own."""
    return _UNNAMED.fullmatch(name) is not None


def is_column(name: str) -> bool:
    """Return whether a column is a field, or a value within one."""
    outer, dot, inner = name.partition(".")
    return name in FIELDS or bool(dot and inner and outer in OBJECTS)


def header_faults(source: str, line: int | None, header: Sequence[str]) -> list[Fault]:
    """Return what is wrong with the names of a table's columns."""
    faults = []
    for name in dict.fromkeys(header):
        if is_unnamed(name):
            continue
        if not is_column(name):
            faults.append(Fault(source, line, None, f"a column {known_field(name, _COLUMNS)}"))
        elif header.count(name) > 1:
            count = header.count(name)
            faults.append(Fault(source, line, None, f"a column must be given once, got {got(name)} {count} times"))
    if not any(name in header for name in SUBJECTS):
        known = " or ".join(map(repr, SUBJECTS))
        meant = next((f"; {got(name)} may be it" for name in header if "prompt" in suggested(name, SUBJECTS)), "")
        faults.append(Fault(source, line, None, f"a column must be named {known}, got {', '.join(header)}{meant}"))
    return faults


class Counts:
    """Columns without a name: an index that counts rows from 0 is passed over, and anything else is a fault."""

    def __init__(self, header: Sequence[str]) -> None:
        """Look at the columns that a header leaves without a name."""
        self._rows = 0
        self._unnamed = [name for name in header if is_unnamed(name)]
        self._told = False

    def without(self, cells: dict[str, Any], source: str, line: int | None) -> dict[str, Any] | Fault:
        """Return a row without them, or the fault that one of them holds something; it is told once."""
        number, self._rows = self._rows, self._rows + 1
        if not self._unnamed:
            return cells
        for name in self._unnamed:
            value = cells.pop(name, None)
            if not self._told and not _counts(value, number):
                self._told = True
                rule = (
                    f"a column without a name must count rows from 0, as an index of pandas, got {got(value)} for row "
                    f"{number}; name it, or write the table without it (pandas: index=False)"
                )
                return Fault(source, line, None, rule)
        return cells


def _counts(value: Any, number: int) -> bool:
    """Return whether a cell of an unnamed column is empty or the row's number."""
    text = "" if value is None else str(value).strip()
    return not text or text.removesuffix(".0") == str(number)


def folded(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with columns such as ``metadata.label`` folded into one object, and nulls left out."""
    row: dict[str, Any] = {}
    for name, value in fields.items():
        outer, dot, inner = name.partition(".")
        if value is None:
            continue
        if not dot or outer not in OBJECTS:
            row[name] = {**value, **row.get(name, {})} if isinstance(value, dict) else value
        elif isinstance(row.setdefault(outer, {}), dict):
            row[outer][inner] = value
    return row
