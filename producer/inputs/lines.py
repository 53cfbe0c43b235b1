"""Lines of a file of requests: opened with clear errors, bounded in length, decoded one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

from ddim_core.errors import Fault, InputError, RequestFaults

Lines = Iterator[bytes]

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is no request; the limit keeps a file without line ends out of the memory."""

NO_LINE_END = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
"""What Python and editors end lines at, and no format of ours does."""

_BOM = b"\xef\xbb\xbf"
CONVERT = "convert the file from the encoding in which it was saved (iconv -f ENCODING -t UTF-8)"
"""What to do about a text in an encoding that nothing tells."""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file of requests for reading bytes.

    Raises:
        InputError: It does not exist, is a folder, or may not be read; or reading it failed.
    """
    with readable(path), path.open("rb") as file:
        yield file


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says about reading ``path`` into one line for a person.

    Raises:
        InputError: The system refused.
    """
    try:
        yield
    except FileNotFoundError as exc:
        _refuse(path, "it does not exist", exc)
    except IsADirectoryError as exc:
        _refuse(path, f"it is a folder; for all files in it: '{path}/*'", exc)
    except OSError as exc:
        _refuse(path, (exc.strerror or str(exc)).lower(), exc)


def _refuse(path: Path, reason: str, cause: Exception) -> NoReturn:
    raise InputError(f"the prompts must be a file that can be read, got {str(path)!r}: {reason}") from cause


def byte_lines(source: str, file: BinaryIO) -> Lines:
    """Yield the lines with their ends, without the mark that some editors put at the start of a file.

    A line past ``MAX_LINE_BYTES`` is cut just above the limit, and ends the lines.

    Raises:
        RequestFaults: The file is damaged from this line on.
    """
    number = 1
    try:
        while line := file.readline(MAX_LINE_BYTES + 1):
            yield line.removeprefix(_BOM) if number == 1 else line
            number += 1
            if len(line) > MAX_LINE_BYTES:
                return
    except InputError as exc:
        raise RequestFaults([Fault(source, number, None, f"{exc}; the rest was not read")]) from exc


def decoded(source: str, lines: Lines) -> Iterator[tuple[int, str | Fault]]:
    """Yield each line's number, from 1, with its text, or with the fault that it is no text."""
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_BYTES:
            yield (
                number,
                Fault(
                    source,
                    number,
                    None,
                    f"the line must have at most {MAX_LINE_BYTES // 2**20} MiB; the rest was not read",
                ),
            )
            return
        try:
            text = line.decode()
        except UnicodeDecodeError as exc:
            got = f"byte 0x{line[exc.start]:02x} at column {exc.start + 1}"
            yield number, Fault(source, number, None, f"the line must be UTF-8 text, got {got}; {CONVERT}")
            continue
        if "\0" in text:
            got = f"NUL at column {text.index(chr(0)) + 1}"
            yield number, Fault(source, number, None, f"the line must be text, got {got}; {CONVERT}")
        else:
            yield number, text
