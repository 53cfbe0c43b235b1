"""Read requests from JSON lines, of our own form or of the OpenAI Batch form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ddim_core.errors import Fault
from producer.inputs.lines import Lines, decoded
from producer.inputs.openai import has_batch_form, request_rows
from producer.rows import Row


def read_jsonl(source: str, lines: Lines) -> Iterator[Row | Fault]:
    """Yield a row for each line that is not blank, which must be a JSON object; all lines have the form of the first.

    Null leaves a field out.
    """
    first: tuple[int, bool] | None = None
    for number, text in decoded(source, lines):
        if isinstance(text, Fault):
            yield text
            continue
        if not (text := text.strip()):
            continue
        row = _parse_object(source, number, text)
        if isinstance(row, Fault):
            yield row
            continue
        is_batch = has_batch_form(row.fields)
        first = first or (number, is_batch)
        if is_batch != first[1]:
            yield row.fault(None, _mixed(first[0], is_batch=is_batch))
        elif is_batch:
            yield from request_rows(row)
        else:
            yield row


def _mixed(first: int, *, is_batch: bool) -> str:
    forms = ("a request's own fields", "the OpenAI Batch form (custom_id, method, url, body)")
    return f"the line must have {forms[not is_batch]} as line {first} has, got {forms[is_batch]}"


def _parse_object(source: str, number: int, text: str) -> Row | Fault:
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as exc:
        return Fault(source, number, None, f"the line must be a JSON object, got {_shortened(text)} ({_reason(exc)})")
    if not isinstance(value, dict):
        return Fault(source, number, None, f"the line must be a JSON object, got {_shortened(text)}")
    if None in value.values():
        value = {name: item for name, item in value.items() if item is not None}
    return Row(source, number, value)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return fields


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats)


def _reason(exc: Exception) -> str:
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg} at column {exc.colno}"
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
