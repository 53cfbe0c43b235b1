"""Read requests from JSON, an object a line or in an array, of our own form or of the OpenAI Batch form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from ddim_core.errors import Fault
from producer.inputs.lines import NO_LINE_END, Lines, decoded
from producer.inputs.openai import has_batch_form, request_rows
from producer.requests.rows import FIELDS, Row

_MARK = "\ufeff"
_OURS = frozenset(FIELDS)


class RowMaker:
    """Makes rows of the objects of one file, all of which have the form of the first."""

    def __init__(self, source: str) -> None:
        """Take what messages call the file."""
        self._source = source
        self._first: tuple[int, bool] | None = None

    def rows(self, number: int, value: dict[str, Any]) -> Iterable[Row | Fault]:
        """Return the row of an object, or what is wrong with it; null leaves a field out."""
        if None in value.values():
            value = {name: item for name, item in value.items() if item is not None}
        row = Row(self._source, number, value)
        is_ours = value.keys() <= _OURS  # of a million lines, nearly all
        is_batch = not is_ours and has_batch_form(value)
        self._first = self._first or (number, is_batch)
        if is_batch != self._first[1]:
            return (row.fault(None, _mixed(self._first[0], is_batch=is_batch)),)
        if is_batch:
            return request_rows(row)
        if not is_ours and (inner := _wrapped(value)) is not None:
            rule = f"a request must have fields such as prompt, got an object around a list; give what {inner!r} holds"
            return (row.fault(None, rule),)
        return (row,)


def read_jsonl(source: str, lines: Lines) -> Iterator[Row | Fault]:
    """Yield a row for each line that is not blank, which must be a JSON object; all lines have the form of the first.

    Null leaves a field out.
    """
    maker = RowMaker(source)
    for number, text in decoded(source, lines):
        if isinstance(text, Fault):
            yield text
            continue
        # A file that begins with a byte-order mark may have been put after another.
        if not (text := text.strip().removeprefix(_MARK)):
            continue
        value = _parse_object(source, number, text)
        if isinstance(value, Fault):
            yield value
        else:
            yield from maker.rows(number, value)


def _mixed(first: int, *, is_batch: bool) -> str:
    forms = ("a request's own fields", "the OpenAI Batch form (custom_id, method, url, body)")
    return f"the line must have {forms[not is_batch]} as line {first} has, got {forms[is_batch]}"


def _wrapped(fields: dict[str, Any]) -> str | None:
    """Return the name under which an object holds a list of requests in place of one."""
    for name, value in fields.items():
        if name not in _OURS and isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            return name
    return None


def _parse_object(source: str, number: int, text: str) -> dict[str, Any] | Fault:
    try:
        value = JSON.decode(text)
    except (ValueError, RecursionError) as exc:
        rule = f"the line must be a JSON object, got {shortened(text)} ({reason_of(exc)}){_remedy(text, exc)}"
        return Fault(source, number, None, rule)
    if not isinstance(value, dict):
        return Fault(source, number, None, f"the line must be a JSON object, got {shortened(text)}")
    return value


def _remedy(text: str, exc: Exception) -> str:
    """Return what to do about a line that is no JSON, where that is known."""
    if isinstance(exc, json.JSONDecodeError) and NO_LINE_END.match(text, exc.pos):
        return "; lines must end in line feeds"
    return "; leave out the comma after it" if text.endswith("},") else ""


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return fields


JSON = json.JSONDecoder(object_pairs_hook=_without_repeats)
"""Refuses a name that an object gives twice, of which Python would take the second."""


def reason_of(exc: Exception) -> str:
    """Return why a text is no JSON."""
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg} at column {exc.colno}"
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)


def shortened(text: str) -> str:
    """Return a text as messages show it."""
    return text if len(text) <= 60 else f"{text[:57]}..."
