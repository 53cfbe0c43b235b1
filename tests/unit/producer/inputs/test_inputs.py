"""Requests are read from every format alike, and every line that cannot be read is named."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ddim_core.errors import Fault, InputError
from producer.inputs import lines, read_rows
from producer.requests.rows import Row

WriteFile = Callable[[str, str | bytes], str]


def fields_of(prompts: str) -> list[dict[str, object]]:
    rows = list(read_rows(prompts))
    assert not [row for row in rows if isinstance(row, Fault)]
    return [row.fields for row in rows if isinstance(row, Row)]


def test_text_is_a_prompt_a_line(write: WriteFile) -> None:
    """Blank lines, line ends of every system and an editor's byte order mark are no part of a prompt."""
    path = write("p.txt", b"\xef\xbb\xbfa red circle\r\n\r\n   \n a star \nlast")
    assert fields_of(path) == [{"prompt": "a red circle"}, {"prompt": "a star"}, {"prompt": "last"}]


def test_line_numbers_count_blank_lines(write: WriteFile) -> None:
    """A fault names the line that an editor shows."""
    rows = list(read_rows(write("p.txt", "\n\na\n\nb\n")))
    assert [row.line for row in rows] == [3, 5]


@pytest.mark.parametrize("name", ["p.jsonl", "p.ndjson", "P.JSONL"])
def test_jsonl_is_an_object_a_line(write: WriteFile, name: str) -> None:
    """Null means that the field is not given."""
    path = write(name, '{"prompt": "a", "seed": 3}\n\n{"prompt": "b", "seed": null}\n')
    assert fields_of(path) == [{"prompt": "a", "seed": 3}, {"prompt": "b"}]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("a red circle", r"got a red circle \(Expecting value at column 1\)"),
        ("[1, 2]", r"got \[1, 2\]"),
        ("null", "got null"),
        ('{"prompt": "a"', r"got .* \(Expecting ',' delimiter at column 15\)"),
        ('{"prompt": "a", "prompt": "b"}', r"got .* \('prompt' is given twice\)"),
        ("[" * 100_000, r"got \[{57}\.\.\. \(nested too deeply\)"),
        ('{"seed": ' + "9" * 5000 + "}", r"got .*\.\.\. \(Exceeds the limit .*\)"),
    ],
)
def test_a_line_that_is_no_object_is_named(write: WriteFile, line: str, rule: str) -> None:
    """The lines around it are still read, so that all faults show at once."""
    path = write("p.jsonl", f'{{"prompt": "x"}}\n{line}\n{{"prompt": "y"}}\nalso bad\n')
    faults = [row for row in read_rows(path) if isinstance(row, Fault)]
    assert [fault.line for fault in faults] == [2, 4]
    assert re.fullmatch(f"{re.escape(path)}:2: the line must be a JSON object, {rule}", str(faults[0]))


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.csv"])
def test_a_line_that_is_no_text_is_named_with_its_byte(write: WriteFile, name: str) -> None:
    """A file in another encoding must not become prompts with odd characters."""
    start = {"p.txt": "a\n", "p.jsonl": '{"prompt": "a"}\n', "p.csv": "prompt\n"}[name].encode()
    path = write(name, start + b"caf\xe9\n")
    (fault,) = (row for row in read_rows(path) if isinstance(row, Fault))
    assert str(fault) == (
        f"{path}:2: the line must be UTF-8 text, got byte 0xe9 at column 4; "
        "convert the file from the encoding in which it was saved (iconv -f ENCODING -t UTF-8)"
    )


def test_a_file_without_line_ends_does_not_fill_the_memory(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops at the limit and says so."""
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 2**20)
    (fault,) = read_rows(write("p.txt", b"a" * 2**21))
    assert re.search(r":1: the line must have at most 1 MiB; the rest was not read$", str(fault))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "it does not exist"),
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: path.symlink_to(path), "too many levels of symbolic links"),
    ],
)
@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".parquet"])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None], reason: str, suffix: str) -> None:
    """Missing files, folders and broken links get one line each, whatever the format."""
    path = tmp_path / f"prompts{suffix}"
    make(path)
    with pytest.raises(InputError, match=f"the prompts must be a file that can be read, got '{path}': {reason}"):
        list(read_rows(str(path)))


def test_an_unknown_suffix_is_refused_with_the_known_ones(write: WriteFile) -> None:
    """A guess could turn a spreadsheet into prompts."""
    known = r"\.jsonl, \.ndjson, \.json, \.csv, \.tsv, \.parquet, \.txt, and \.gz, .* compressed"
    for name, remedy in (("p.xlsx", r"save the sheet as CSV \(UTF-8\)"), ("p.md", "rename it after what it holds")):
        with pytest.raises(InputError, match=rf"{known}, got '.*{re.escape(name)}'; {remedy}$"):
            list(read_rows(write(name, "a")))


@pytest.mark.parametrize(
    ("piped", "expected"),
    [
        (b'\n {"prompt": "a"}\n', [{"prompt": "a"}]),
        (b"\n\na red circle\n{braces}\n", [{"prompt": "a red circle"}, {"prompt": "{braces}"}]),
        (b'\xef\xbb\xbf{"prompt": "a"}', [{"prompt": "a"}]),
        (b"", []),
        (b"\n\n", []),
    ],
)
def test_standard_input_is_told_by_its_first_character(
    piped: bytes, expected: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object opens JSON lines, anything else is a prompt a line."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(piped)))
    assert fields_of("-") == expected


def test_a_named_pipe_is_read_like_standard_input(tmp_path: Path) -> None:
    """So that a shell's ``<(...)`` works, which has no suffix."""
    pipe = tmp_path / "63"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b'{"prompt": "a"}\n',))
    writer.start()
    assert fields_of(str(pipe)) == [{"prompt": "a"}]
    writer.join()
