"""Read requests, a line at a time: JSONL, CSV, Parquet or plain text, with or without compression."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import PurePath
from typing import BinaryIO

from ddim_core.errors import Fault, InputError, RequestFaults
from producer.inputs.jsonl import read_jsonl
from producer.inputs.lines import Lines, byte_lines, decoded
from producer.inputs.sources import Source, sources
from producer.inputs.streams import SUFFIXES, plain, plain_name
from producer.inputs.tables import read_csv, read_parquet
from producer.rows import Row

PARQUET = ".parquet"
PARQUET_MAGIC = b"PAR1"

Reader = Callable[[str, Lines], Iterator[Row | Fault]]


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


def read_text(source: str, lines: Lines) -> Iterator[Row | Fault]:
    """Yield a row for each line that is not blank: the line is the prompt."""
    for number, text in decoded(source, lines):
        if isinstance(text, Fault):
            yield text
        elif text.strip():
            yield Row(source, number, {"prompt": text.strip()})


READERS: dict[str, Reader] = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv, ".txt": read_text}


def _format_of(source: Source) -> str:
    return PurePath(plain_name(source.name)).suffix.lower()


def _check_name(source: Source) -> None:
    if not source.is_piped and _format_of(source) not in (*READERS, PARQUET):
        raise InputError(
            f"the name of a prompts file must end in one of {', '.join((*READERS, PARQUET))}, and "
            f"{', '.join(SUFFIXES)} where it is compressed, got {source.name!r}; rename it, or give '-' and pipe it in"
        )


def _read(source: Source, file: BinaryIO) -> Iterator[Row | Fault]:
    try:
        content = plain("" if source.is_piped else source.name, file)
    except InputError as exc:
        raise RequestFaults([Fault(source.name, None, None, str(exc))]) from exc
    with content:
        is_table = _format_of(source) == PARQUET or (source.is_piped and content.peek().startswith(PARQUET_MAGIC))
        if is_table:
            yield from _read_table(source.name, file, content)
        elif source.is_piped:
            yield from _read_piped(source.name, content)
        else:
            yield from READERS[_format_of(source)](source.name, byte_lines(source.name, content))


def _read_table(name: str, file: BinaryIO, content: BinaryIO) -> Iterator[Row | Fault]:
    """Read Parquet, whose directory stands at its end: where the input cannot be turned back, from a temporary file."""
    if _is_plain_table(file):
        yield from read_parquet(name, file)
        return
    with tempfile.TemporaryFile(prefix="ddim-fleet-") as copy:
        try:
            shutil.copyfileobj(content, copy)
        except InputError as exc:
            raise RequestFaults([Fault(name, None, None, str(exc))]) from exc
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


def _read_piped(name: str, content: BinaryIO) -> Iterator[Row | Fault]:
    """Read JSONL if the first character that is no white space opens an object, otherwise a prompt a line."""
    head: list[bytes] = []
    lines = byte_lines(name, content)
    for line in lines:
        head.append(line)
        if line.strip():
            break
    opens_object = bool(head) and head[-1].lstrip().startswith(b"{")
    read = read_jsonl if opens_object else read_text
    yield from read(name, chain(head, lines))
