"""Requests from Python: mappings, ``Request``s and texts, or a table of pandas, polars or Arrow."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import date, time
from os import PathLike, fspath
from typing import Any
from uuid import UUID

from ddim_core.contracts.request import Request
from ddim_core.errors import Fault, InputError
from producer.inputs.columns import SUBJECTS, folded, is_column
from producer.inputs.content import looks_json
from producer.inputs.formats import read_rows
from producer.requests.messages import got
from producer.requests.rows import Row
from producer.requests.values import plain_value

SOURCE = "requests"
"""What messages call them."""

_ROWS_AT_ONCE = 1000
_WANTED = "the requests must be rows, as in [{'prompt': 'a red star'}], a table of pandas or Arrow, or a Path to a file"
_NO_PROMPTS = (PathLike, date, time, UUID)
"""Fields may hold them as text; in the place of a row they were meant as something else than a prompt."""


def rows_of(requests: Any) -> Iterator[Row | Fault]:
    """Return the rows of what a caller gave as requests, and a fault for each that is none.

    A row is a mapping of fields, whose names may have a dot as columns do, a ``Request``, or a text, which is its
    prompt. A path is that of a file as the command line takes it; a text in place of rows would be taken for one.

    Raises:
        InputError: It is nothing that has rows.
    """
    if isinstance(requests, PathLike):
        return read_rows(str(fspath(requests)))
    if isinstance(requests, str | bytes | bytearray | memoryview):
        remedy = "put a prompt into a list, or a file's name into a pathlib.Path"
        raise InputError(f"{_WANTED}, got {got(requests)}; {remedy}")
    if hasattr(requests, "readline"):
        raise InputError(f"{_WANTED}, got an open file, whose lines need not be prompts; give its pathlib.Path")
    if isinstance(requests, Mapping | Request) or _is_one_row(requests):
        raise InputError(f"{_WANTED}, got a single row; put it into a list")
    if isinstance(requests, set | frozenset):
        raise InputError(f"{_WANTED}, got a set, which has no order; put its rows into a list")
    if (rows := _table(requests)) is not None:
        return rows
    try:
        given = iter(requests)
    except TypeError:
        raise InputError(f"{_WANTED}, got {got(requests)}") from None
    return _rows(given)


def _rows(given: Iterator[Any]) -> Iterator[Row | Fault]:
    for number, item in enumerate(given, start=1):
        value = _mapping(item)
        if isinstance(value, str):
            rule = _text_rule(item, value)
            yield Row(SOURCE, number, {"prompt": value}) if rule is None else Fault(SOURCE, number, None, rule)
        elif not isinstance(value, dict):
            rule = f"a request must be a mapping of fields, a Request or a text, got {got(item)}"
            yield Fault(SOURCE, number, None, rule)
        elif wrong := [name for name in value if not isinstance(name, str)]:
            yield Fault(SOURCE, number, None, f"a field must be named by a text, got {got(wrong[0])}")
        else:
            yield Row(SOURCE, number, folded(value))


def _text_rule(item: Any, text: str) -> str | None:
    """Return the rule that something breaks in the place of a row, which as text would be taken for a prompt."""
    if isinstance(item, _NO_PROMPTS):
        remedy = "; give a single Path in place of all rows" if isinstance(item, PathLike) else ""
        return f"a request must be a mapping of fields, a Request or a text, got {got(item)}{remedy}"
    if looks_json(text.lstrip()):
        return f"a text must be a prompt, got what looks like JSON, {got(text)}; give what json.loads makes of it"
    return None


def _is_one_row(given: Any) -> bool:
    """Return whether this is a row of pandas, whose values would be taken for rows of their own."""
    return _is_series(given) and any(name in getattr(given, "index", ()) for name in SUBJECTS)


def _mapping(item: Any) -> Any:
    """Return a row in plain types: a dict, a text, or what is neither."""
    if isinstance(item, Request):
        item = item.model_dump(exclude_unset=True)
    elif hasattr(item, "to_dict") and hasattr(item, "index"):  # a row of pandas
        item = item.to_dict()
    elif isinstance(item, list | tuple):
        return item  # a list has no names; of a named tuple only its class knows that they are meant as fields
    return plain_value(item)


def _table(given: Any) -> Iterator[Row | Fault] | None:
    """Return the rows of a table, whose library is loaded if it is one of its."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(given, pandas.DataFrame):
        return _frame_rows(given)
    import pyarrow as pa

    if isinstance(given, pa.RecordBatch):
        given = pa.Table.from_batches([given])
    if not hasattr(given, "__arrow_c_stream__") or isinstance(given, pa.ChunkedArray) or _is_series(given):
        return None
    from producer.inputs.parquet import arrow_rows

    reader = pa.RecordBatchReader.from_stream(given)
    return arrow_rows(SOURCE, reader.schema, reader)


def _is_series(given: Any) -> bool:
    """Return whether this is one column, of texts or of structs, whose elements are the rows."""
    return hasattr(given, "to_list") and not hasattr(given, "columns")


def _frame_rows(frame: Any) -> Iterator[Row | Fault]:
    """Yield the rows of pandas' table, a few at a time; an index with a field's name is a column, as in Parquet."""
    from producer.inputs.parquet import table_rows

    if named := [name for name in frame.index.names if isinstance(name, str) and is_column(name)]:
        frame = frame.reset_index(level=named, allow_duplicates=True)

    def dicts() -> Iterator[dict[str, Any]]:
        for first in range(0, len(frame), _ROWS_AT_ONCE):
            yield from frame.iloc[first : first + _ROWS_AT_ONCE].to_dict("records")

    yield from table_rows(SOURCE, None, [str(name) for name in frame.columns], dicts())
