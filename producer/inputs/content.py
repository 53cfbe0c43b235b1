"""What a text holds, told by how it begins: JSON, a table, or a prompt a line; docs/requests.md has it as a table."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from typing import Literal

from producer.inputs.columns import SUBJECTS, is_column, is_unnamed
from producer.inputs.heads import Head
from producer.inputs.signatures import foreign_lines, refusal
from producer.requests.rows import FIELDS
from producer.requests.suggestions import is_synonym, plain_name, suggested

Form = Literal["json lines", "json", "csv", "text"]

SEPARATORS = (",", "\t", ";")
EXCEL_SEPARATOR = re.compile(r'"?sep=([^\w"])"?\s*')
"""What Excel takes a separator from, and writes."""

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_OBJECT = rf"\{{\s*(?:{_STRING}\s*:|\}}\s*(?:[,\n]|\Z))"
_LOOKS_JSON = re.compile(
    rf"[{{\[]\s*(?:\n|\Z)|{_OBJECT}|\[\s*(?:{_OBJECT}|{_STRING}\s*(?:,\s*(?:\"|\Z)|\]?\s*\Z|\]\s*\n))"
)
_LOOKS_PYTHON = re.compile(r"[\[(]?\s*\{\s*'[^'\n]*'\s*:|[\[(]\s*'[^'\n]*'\s*(?:,\s*'|\]\s*(?:\n|\Z))")
_LOOKS_SCRIPT = re.compile(rf"\[?\s*\{{\s*(?:{'|'.join(FIELDS)}|text|caption)\s*:")
_AS_JSON = "write it as JSON, as json.dumps or JSON.stringify do"
_WORD = re.compile(r"[A-Za-z_][\w.-]*")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LINES_COMPARED = 20
_CALLED_SO = ("caption", "captions", "text", "prompts")
"""Columns of prompts in other people's tables."""


def looks_json(text: str) -> bool:
    """Return whether a line begins like a JSON object, or like an array of such."""
    return text.startswith(("{", "[")) and re.match(rf"\[?\s*{_OBJECT}", text) is not None


def json_form(head: Head) -> Form | None:
    """Return whether a text is JSON, and whether it has an object a line; None if it is something else.

    Braces and brackets alone do not tell: prompts may begin with them.
    """
    text = head.text.lstrip()
    if not text.startswith(("{", "[")):
        return None
    line = text.partition("\n")[0].rstrip()
    try:
        return "json lines" if isinstance(json.loads(line), dict) else "json"
    except RecursionError:
        return "json lines"
    except ValueError as exc:
        if not _LOOKS_JSON.match(text):
            return None
        has_more = isinstance(exc, json.JSONDecodeError) and exc.msg == "Extra data"
    if text.startswith("["):  # ["a", "b"] and more words are a prompt with brackets
        return None if has_more and not line[1:].lstrip().startswith("{") else "json"
    return "json" if not has_more and _goes_on(text, head.is_whole) else "json lines"


def _goes_on(text: str, is_whole: bool) -> bool:
    """Return whether an object that its first line does not hold whole is whole in what follows."""
    try:
        json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as exc:
        # Printed with indents it would not begin another object on its second line.
        second = text.partition("\n")[2].lstrip()
        return not second.startswith("{") and (not is_whole or exc.lineno > 1)
    except (ValueError, RecursionError):
        return False
    return True


def script_refusal(text: str) -> str | None:
    """Return what a text is refused with that looks like data of Python or JavaScript."""
    start = text.lstrip()
    if _LOOKS_PYTHON.match(start):
        return refusal("data as Python prints them", _AS_JSON)
    if _LOOKS_SCRIPT.match(start):
        return refusal("an object of JavaScript", _AS_JSON)
    return None


def separator_of(header: str) -> str | None:
    """Return what separates the columns of a header whose columns are all fields of requests, if it is one."""
    if match := EXCEL_SEPARATOR.fullmatch(header):
        return match[1]
    for separator in SEPARATORS:
        cells = cells_of(header, separator)
        named = [cell for cell in cells if not is_unnamed(cell)]
        if len(cells) > 1 and all(map(is_column, named)) and any(name in named for name in SUBJECTS):
            return separator
    return None


def cells_of(line: str, separator: str) -> list[str]:
    """Return the cells of one line of a table."""
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # longer than a cell may be
        return [line]
    return [cell.strip() for cell in cells]


def is_header(line: str) -> bool:
    """Return whether a line is a table's header: all columns are fields, or it is a single column of prompts."""
    return separator_of(line) is not None or _is_single(line)


def _is_single(line: str, names: Sequence[str] = SUBJECTS) -> bool:
    """Return whether a line is nothing but a column's name, in whatever letters."""
    cells = cells_of(line, ",")
    return len(cells) == 1 and cells[0].lower() in names


def prompts_refusal(head: Head, *, is_piped: bool) -> str | None:
    """Return why a text that is no table of requests is not taken for prompts, if it looks like something else."""
    text = head.text
    if rule := script_refusal(text) or foreign_lines(text):
        return rule
    lines = [line for line in text.split("\n")[: None if head.is_whole else -1] if line.strip()][:_LINES_COMPARED]
    if not lines:
        return None
    if _is_single(lines[0], (*(() if is_piped else SUBJECTS), *_CALLED_SO)):
        remedy = "call the column prompt and the file .csv, or leave out the first line"
        return refusal(f"a table of one column, {lines[0].strip()}", remedy)
    if all(map(_is_json_text, lines)):
        return refusal("texts as JSON, with quotes", "write them without quotes (jq -r), or as a JSON array")
    return _table_refusal(lines)


def _is_json_text(line: str) -> bool:
    try:
        return line.lstrip().startswith('"') and isinstance(json.loads(line), str)
    except (ValueError, RecursionError):
        return False


def _table_refusal(lines: Sequence[str]) -> str | None:
    """Return why lines look like a table whose columns are not all fields; they are prompts if nothing tells so."""
    for separator in (*SEPARATORS, "|"):
        names = cells_of(lines[0].strip().strip("|"), separator)
        if len(names) > 1 and _are_names(names) and (_has_field(names) or _has_columns(lines, separator)):
            near = {name: suggested(name, FIELDS) for name in names if name not in FIELDS}
            hint = next((f" ({name} may be {' and '.join(meant)})" for name, meant in near.items() if meant), "")
            remedy = (
                f"name its columns as the fields are{hint}, separated by commas; prompts may have a space after each"
            )
            return refusal(f"a table of {', '.join(names)}", remedy)
    tabs = {line.rstrip("\r").count("\t") for line in lines}
    if len(lines) > 1 and len(tabs) == 1 and tabs != {0}:
        return refusal("tab-separated values without a header", "name the columns in a first line")
    return None


def _are_names(cells: Sequence[str]) -> bool:
    return all(_WORD.fullmatch(cell) for cell in cells if not is_unnamed(cell))


def _has_field(names: Sequence[str]) -> bool:
    """Return whether one of the names is a field, in whatever letters, and hardly a word of a prompt."""
    plain = [plain_name(name) for name in names]
    return "prompt" in plain or any(is_column(name) and re.search(r"[_.]", name) for name in plain)


def _has_columns(lines: Sequence[str], separator: str) -> bool:
    """Return whether lines have as many cells each without spaces after separators, and either known names or numbers.

    A prompt with commas, as ``a cat, a dog``, has spaces there.
    """
    header, *rows = lines
    names = cells_of(header, separator)
    if not rows or f"{separator} " in header or any(len(cells_of(row, separator)) != len(names) for row in rows):
        return False
    if all(is_column(plain_name(name)) or is_synonym(name) for name in names):
        return True
    columns = zip(*(cells_of(row, separator) for row in rows), strict=True)
    return len(rows) > 1 and any(all(map(_NUMBER.fullmatch, column)) for column in columns)
