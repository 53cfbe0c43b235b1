"""Read requests from a file or standard input, a line at a time: JSONL, CSV, Parquet, or plain text."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ddim_core.errors import Fault, InputError
from producer.lines import Lines, byte_lines, decoded, opened
from producer.rows import Row
from producer.tables import read_csv, read_parquet

STDIN = "-"

Reader = Callable[[str, Lines], Iterator[Row | Fault]]


def read_rows(prompts: str) -> Iterator[Row | Fault]:
    """Yield the rows of a file (``-`` for standard input), and a fault for each line that cannot be read.

    Raises:
        InputError: There is no such file, it cannot be read, or its name tells no known format.
    """
    path = Path(prompts)
    if prompts == STDIN:
        yield from _read_piped(source_of(prompts), byte_lines(sys.stdin.buffer))
    elif path.suffix.lower() == ".parquet":
        yield from read_parquet(path)
    else:
        with opened(path) as file:
            read = _read_piped if path.is_fifo() else _reader_for(path)
            yield from read(prompts, byte_lines(file))


def source_of(prompts: str) -> str:
    """Return what messages call the input."""
    return "stdin" if prompts == STDIN else prompts


def read_text(source: str, lines: Lines) -> Iterator[Row | Fault]:
    """Yield a row for each line that is not blank: the line is the prompt."""
    for number, text in decoded(source, lines):
        if isinstance(text, Fault):
            yield text
        elif text.strip():
            yield Row(source, number, {"prompt": text.strip()})


def read_jsonl(source: str, lines: Lines) -> Iterator[Row | Fault]:
    """Yield a row for each line that is not blank, which must be a JSON object."""
    for number, text in decoded(source, lines):
        if isinstance(text, Fault):
            yield text
        elif text.strip():
            yield _parse_object(source, number, text.strip())


READERS: dict[str, Reader] = {".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv, ".txt": read_text}
SUFFIXES = (*READERS, ".parquet")


def _reader_for(path: Path) -> Reader:
    try:
        return READERS[path.suffix.lower()]
    except KeyError:
        raise InputError(
            f"the name of a prompts file must end in one of {', '.join(SUFFIXES)}, got {str(path)!r}; "
            "rename it, or give '-' and pipe it in"
        ) from None


def _read_piped(source: str, lines: Lines) -> Iterator[Row | Fault]:
    """Read JSONL if the first character that is not white space opens an object, otherwise a prompt a line."""
    head: list[bytes] = []
    for line in lines:
        head.append(line)
        if line.strip():
            break
    opens_object = bool(head) and head[-1].lstrip().startswith(b"{")
    read = read_jsonl if opens_object else read_text
    yield from read(source, chain(head, lines))


def _parse_object(source: str, number: int, text: str) -> Row | Fault:
    try:
        value = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as exc:
        return Fault(source, number, None, f"the line must be a JSON object, got {_shortened(text)} ({_reason(exc)})")
    if not isinstance(value, dict):
        return Fault(source, number, None, f"the line must be a JSON object, got {_shortened(text)}")
    return Row(source, number, {name: item for name, item in value.items() if item is not None})


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return fields


def _reason(exc: Exception) -> str:
    if isinstance(exc, json.JSONDecodeError):
        return f"{exc.msg} at column {exc.colno}"
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
