"""Read requests from tables, CSV and Parquet: a column is a field, or ``metadata.x`` and ``scheduler.x`` within one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ddim_core.contracts.kinds import KINDS
from ddim_core.errors import Fault, InputError
from producer.inputs.lines import Lines, decoded
from producer.rows import FIELDS, LISTS, SWEEP, Row
from producer.wording import got, known_field

OBJECTS = ("metadata", "scheduler", SWEEP, LISTS, *KINDS)
"""Fields that hold names and values; a column may hold one of them, as in ``scheduler.timestep_spacing``."""
_AS_JSON = ("scheduler", SWEEP, LISTS, *KINDS)
"""Those of them whose values are not all text."""
_COLUMNS = (*FIELDS, *(f"{name}.x" for name in OBJECTS))
_SUBJECTS = ("prompt", "class_label", "num_images_per_prompt")
"""A table has one of them; with an unconditional model there is nothing to say but how many."""
_OTHER_SEPARATORS = (";", "\t", "|")


def read_csv(source: str, lines: Lines) -> Iterator[Row | Fault]:
    """Yield a row for each record below the header; an empty cell leaves its field out."""
    bad_lines: list[Fault] = []
    reader = csv.reader(_texts(source, lines, bad_lines), strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            yield from bad_lines
            if bad_lines or not any(cell.strip() for cell in cells):
                bad_lines.clear()
            elif header is None:
                header = [cell.strip() for cell in cells]
                if faults := _header_faults(source, reader.line_num, header):
                    yield from faults
                    return  # every line would repeat them
            else:
                yield _csv_row(source, reader.line_num, header, cells)
    except csv.Error as exc:
        yield Fault(source, reader.line_num, None, f"the line must be CSV, got {exc}; the rest was not read")
    yield from bad_lines


def read_parquet(source: str, file: BinaryIO) -> Iterator[Row | Fault]:
    """Yield a row for each row of the table, numbered from 1; null leaves a field out.

    Raises:
        InputError: The file, which must be seekable, is no Parquet file.
    """
    try:
        with pq.ParquetFile(file) as table:
            faults = _header_faults(source, None, table.schema_arrow.names)
            yield from faults
            yield from () if faults else _parquet_rows(source, table)
    except (pa.ArrowException, OSError) as exc:
        reason = str(exc).split("\n", maxsplit=1)[0]
        raise InputError(f"a .parquet file must be a Parquet table, got {source!r}: {reason}") from exc


def _parquet_rows(source: str, table: pq.ParquetFile) -> Iterator[Row]:
    number = 0
    for batch in table.iter_batches(batch_size=1000):
        for fields in batch.to_pylist():
            number += 1
            yield Row(source, number, _folded({name: _plain(value) for name, value in fields.items()}))


def _plain(value: Any) -> Any:
    """Return a struct or map of Parquet as a dict without its nulls."""
    if isinstance(value, list) and all(isinstance(pair, tuple) for pair in value):
        value = dict(value)
    if isinstance(value, dict):
        return {name: item for name, item in value.items() if item is not None}
    return value


def _texts(source: str, lines: Lines, faults: list[Fault]) -> Iterator[str]:
    """Yield the lines as text; one that is none goes to ``faults``, and its record is not used."""
    for _, text in decoded(source, lines):
        if isinstance(text, Fault):
            faults.append(text)
            yield "\n"
        else:
            yield text


def _header_faults(source: str, line: int | None, header: list[str]) -> list[Fault]:
    other = [mark for mark in _OTHER_SEPARATORS if mark in header[0]]
    if line is not None and len(header) == 1 and other:
        return [Fault(source, line, None, f"columns must be separated by commas, got {other[0]!r} in {got(header[0])}")]
    faults = []
    for name in dict.fromkeys(header):
        outer, dot, inner = name.partition(".")
        if not (name in FIELDS or (dot and inner and outer in OBJECTS)):
            faults.append(Fault(source, line, None, f"a column {known_field(name, _COLUMNS)}"))
        elif header.count(name) > 1:
            faults.append(
                Fault(source, line, None, f"a column must be given once, got {name!r} {header.count(name)} times")
            )
    if not any(name in header for name in _SUBJECTS):
        known = " or ".join(map(repr, _SUBJECTS))
        faults.append(Fault(source, line, None, f"a column must be named {known}, got {', '.join(header)}"))
    return faults


def _csv_row(source: str, line: int, header: list[str], cells: list[str]) -> Row | Fault:
    if len(cells) != len(header):
        return Fault(source, line, None, f"a record must have {len(header)} cells as the header has, got {len(cells)}")
    fields = {name: _parse_cell(name, cell) for name, cell in zip(header, cells, strict=True) if cell.strip()}
    return Row(source, line, _folded(fields), typed=False)


def _parse_cell(name: str, cell: str) -> Any:
    """Return a cell's value: JSON where the field has no type of its own to read text by."""
    outer, _, inner = name.partition(".")
    return json_or_text(cell) if outer in _AS_JSON or (outer in OBJECTS and not inner) else cell


def json_or_text(text: str) -> Any:
    """Return what ``text`` says as JSON, or the text itself if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _folded(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with columns such as ``metadata.label`` folded into one object, and nulls left out."""
    folded: dict[str, Any] = {}
    for name, value in fields.items():
        outer, dot, inner = name.partition(".")
        if value is None:
            continue
        if not dot:
            folded[name] = {**value, **folded.get(name, {})} if isinstance(value, dict) else value
        elif isinstance(folded.setdefault(outer, {}), dict):
            folded[outer][inner] = value
    return folded
