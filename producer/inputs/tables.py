"""Read requests from CSV and TSV: a column is a field, or ``metadata.x`` and ``scheduler.x`` within one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

from ddim_core.contracts.kinds import KINDS
from ddim_core.errors import Fault
from producer.inputs.columns import OBJECTS, Counts, folded, header_faults, is_unnamed
from producer.inputs.content import EXCEL_SEPARATOR, separator_of
from producer.inputs.lines import MAX_LINE_BYTES, NO_LINE_END, Lines, decoded
from producer.requests.messages import got
from producer.requests.rows import LISTS, SWEEP, Row

_AS_JSON = ("scheduler", SWEEP, LISTS, *KINDS)
"""Fields of names and values, whose values are not all text."""
_OTHER_SEPARATORS = (";", "\t", "|")
_FLAGS = {"true": True, "false": False}
_REASONS = {
    "unexpected end of data": "; a quote is never closed",
    "new-line character seen in unquoted field": "; lines must end in line feeds",
    "field larger than field limit": "; a quote is never closed, or a cell is too long",
}
_MARK = "\ufeff"


def read_csv(source: str, lines: Lines, separator: str = ",") -> Iterator[Row | Fault]:
    """Yield a row for each record below the header; an empty cell leaves its field out.

    A line such as ``sep=;`` before the header, or a header of nothing but fields, says what else separates cells.
    """
    bad_lines: list[Fault] = []
    texts = _Texts(source, lines, bad_lines)
    # One for all readers of a process, and 131,072 characters unless raised; lines are bounded as it is.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
    first = texts.first()
    separator = separator_of(first.strip("\r\n")) or separator
    held = "\n" if EXCEL_SEPARATOR.fullmatch(first.strip("\r\n")) else first
    reader = csv.reader(
        chain([held], texts), delimiter=separator, strict=True, skipinitialspace=_has_spaces(first, separator)
    )
    try:
        yield from _records(source, reader, texts, bad_lines)
    except csv.Error as exc:
        hint = next((text for reason, text in _REASONS.items() if str(exc).startswith(reason)), "")
        rule = f"the line must be CSV, got {str(exc).partition(' - ')[0]}; the rest was not read{hint}"
        yield Fault(source, texts.number(reader), None, rule)
    yield from bad_lines


class _Texts:
    """The lines of a table as text; one that is none goes to ``faults``, and its record is not used."""

    def __init__(self, source: str, lines: Lines, faults: list[Fault]) -> None:
        self._source, self._faults = source, faults
        self._lines = decoded(source, lines)
        self._skipped = 0

    def __iter__(self) -> Iterator[str]:
        for number, text in self._lines:
            if isinstance(text, str) and _MARK not in text:
                yield text
                continue
            rule = "the line must have no byte-order mark, got one; the files put together here need lines of their own"
            self._faults.append(text if isinstance(text, Fault) else Fault(self._source, number, None, rule))
            yield "\n"

    def first(self) -> str:
        """Return the first line that is not blank, or nothing."""
        for text in self:
            if text.strip():
                return text
            self._skipped += 1
        return ""

    def number(self, reader: Any) -> int:
        """Return the line that a reader of what follows is at."""
        line: int = reader.line_num
        return line + self._skipped


def _has_spaces(header: str, separator: str) -> bool:
    """Return whether a space follows every separator of the header, so that quotes behind one are quotes."""
    return separator in header and header.count(separator) == header.count(f"{separator} ")


def _records(source: str, reader: Any, texts: _Texts, bad_lines: list[Fault]) -> Iterator[Row | Fault]:
    header: list[str] = []
    counts = Counts(())
    for cells in reader:
        yield from bad_lines
        line = texts.number(reader)
        if bad_lines or not any(cell.strip() for cell in cells):
            bad_lines.clear()
        elif header:
            yield _csv_row(source, line, header, cells, counts)
        else:
            header = [cell.strip() or f"Unnamed: {i}" for i, cell in enumerate(cells)]
            counts = Counts(header)
            if faults := _header_faults(source, line, header):
                yield from faults
                return  # every line would repeat them


def _header_faults(source: str, line: int, header: list[str]) -> list[Fault]:
    if mark := NO_LINE_END.search("".join(header)):
        return [Fault(source, line, None, f"lines must end in line feeds, got U+{ord(mark[0]):04X} in the header")]
    other = [mark for mark in _OTHER_SEPARATORS if mark in header[0]]
    if len(header) == 1 and other:
        return [Fault(source, line, None, f"columns must be separated by commas, got {other[0]!r} in {got(header[0])}")]
    return header_faults(source, line, ["" if is_unnamed(name) else name for name in header])


def _csv_row(source: str, line: int, header: list[str], cells: list[str], counts: Counts) -> Row | Fault:
    if len(cells) != len(header):
        return Fault(source, line, None, f"a record must have {len(header)} cells as the header has, got {len(cells)}")
    named = counts.without(dict(zip(header, cells, strict=True)), source, line)
    if isinstance(named, Fault):
        return named
    fields = {name: _parse_cell(name, cell) for name, cell in named.items() if cell.strip()}
    return Row(source, line, folded(fields), typed=False)


def _parse_cell(name: str, cell: str) -> Any:
    """Return a cell's value: JSON where the field has no type of its own to read text by."""
    outer, _, inner = name.partition(".")
    return json_or_text(cell) if outer in _AS_JSON or (outer in OBJECTS and not inner) else cell


def json_or_text(text: str) -> Any:
    """Return what ``text`` says as JSON, or else the text itself; flags also as Python and Excel write them."""
    flag = _FLAGS.get(text.strip().lower())
    if flag is not None:
        return flag
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
