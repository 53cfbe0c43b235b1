"""Read requests: JSON, CSV, TSV, Parquet or plain text, with or without compression, told by what they hold."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import PurePath
from typing import BinaryIO

from ddim_core.errors import Fault, InputError, RequestFaults
from producer.inputs.content import is_header, json_form, prompts_refusal, script_refusal, separator_of
from producer.inputs.documents import read_json
from producer.inputs.encodings import as_utf8
from producer.inputs.heads import Head, headed
from producer.inputs.jsonl import read_jsonl
from producer.inputs.lines import byte_lines
from producer.inputs.parquet import read_parquet
from producer.inputs.plain_text import read_text
from producer.inputs.signatures import foreign, foreign_text, refusal
from producer.inputs.sources import Source, sources
from producer.inputs.streams import SUFFIXES, Pieces, plain, plain_name
from producer.inputs.tables import read_csv
from producer.requests.rows import Row

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
TABLE_SUFFIXES = {".csv": ",", ".tsv": "\t"}
"""Separators that tables have unless their header says otherwise."""
PARQUET, TEXT = ".parquet", ".txt"
KNOWN = (*JSON_SUFFIXES, *TABLE_SUFFIXES, PARQUET, TEXT)
PARQUET_MAGIC = b"PAR1"

_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def read_rows(*prompts: str) -> Iterator[Row | Fault]:
    """Yield the rows of files, patterns, ``s3://`` URLs or ``-``, and a fault for each line that cannot be read.

    Raises:
        InputError: There is no such file, it cannot be read, or its name tells no known format.
        StorageError: A bucket failed.
    """
    found = list(sources(prompts))
    for source in found:
        _check_name(source)
    for source in found:
        try:
            with source.open() as file:
                yield from _read(source, file)
        except RequestFaults as exc:
            yield from exc.faults


def _suffix(source: Source) -> str:
    """Return what a name says of the format; that of a pipe says nothing."""
    return "" if source.is_piped else PurePath(plain_name(source.name)).suffix.lower()


def _check_name(source: Source) -> None:
    suffix = _suffix(source)
    if source.is_piped or suffix in KNOWN:
        return
    remedy = "save the sheet as CSV (UTF-8)" if suffix in _SHEETS else "rename it after what it holds"
    raise InputError(
        f"the name of a prompts file must end in one of {', '.join(KNOWN)}, and {', '.join(SUFFIXES)} where it is "
        f"compressed, got {source.name!r}; {remedy}"
    )


def _read(source: Source, file: BinaryIO) -> Iterator[Row | Fault]:
    """Yield the rows of one source, or the one fault that it holds none."""
    try:
        head, content = headed(plain("" if source.is_piped else source.name, file))
        if head.data.startswith(PARQUET_MAGIC):
            yield from _read_table(source.name, file, content)
            return
        if rule := foreign(head.data):
            raise InputError(rule)
        head, content = as_utf8(content)
        suffix = _suffix(source)
        if rule := foreign_text(head.text) or (suffix == PARQUET and _no_parquet(head)) or None:
            raise InputError(rule)
    except InputError as exc:
        raise RequestFaults([Fault(source.name, None, None, str(exc))]) from exc
    with content:
        yield from _read_text(source.name, suffix, head, content)


def _no_parquet(head: Head) -> str | None:
    """Return why a file called .parquet is refused that is neither that nor another format which tells itself."""
    if json_form(head) or is_header(_first_line(head)):
        return None
    return refusal("none of them by its name, .parquet", "rename it after what it holds")


def _read_text(name: str, suffix: str, head: Head, content: io.BufferedReader[Pieces]) -> Iterator[Row | Fault]:
    """Yield the rows of text: by its name if that fits, and by what it holds where that tells."""
    form = json_form(head)
    first = _first_line(head)
    if form == "json":
        yield from read_json(name, content)
    elif form == "json lines":
        yield from read_jsonl(name, byte_lines(name, content))
    elif suffix in TABLE_SUFFIXES or separator_of(first) or (suffix != TEXT and is_header(first)):
        rows = read_csv(name, byte_lines(name, content), TABLE_SUFFIXES.get(suffix, ","))
        yield from _without_line_feeds(rows) if head.was_old_mac else rows
    elif suffix in JSON_SUFFIXES:
        rule = script_refusal(head.text)
        yield from [Fault(name, None, None, rule)] if rule else read_jsonl(name, byte_lines(name, content))
    elif rule := prompts_refusal(head, is_piped=suffix == ""):
        yield Fault(name, None, None, rule)
    else:
        yield from read_text(name, byte_lines(name, content))


def _without_line_feeds(rows: Iterator[Row | Fault]) -> Iterator[Row | Fault]:
    """Yield rows, or faults in place of those with a line feed, which was a carriage return until lines were told."""
    for row in rows:
        if isinstance(row, Row) and any("\n" in value for value in row.fields.values() if isinstance(value, str)):
            yield row.fault(None, "a cell must have no line end of its own where lines end in carriage returns")
        else:
            yield row


def _first_line(head: Head) -> str:
    """Return the first line that is not blank."""
    return next((line for line in head.text.split("\n") if line.strip()), "").strip("\r")


def _read_table(name: str, file: BinaryIO, content: BinaryIO) -> Iterator[Row | Fault]:
    """Read Parquet, whose directory stands at its end: where the input cannot be turned back, from a temporary file."""
    if _is_plain_table(file):
        yield from read_parquet(name, file)
        return
    with tempfile.TemporaryFile(prefix="ddim-fleet-") as copy:
        shutil.copyfileobj(content, copy)
        copy.seek(0)
        yield from read_parquet(name, copy)


def _is_plain_table(file: BinaryIO) -> bool:
    if not file.seekable():
        return False
    position = file.tell()
    file.seek(0)
    is_table = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
    file.seek(position)
    return is_table
