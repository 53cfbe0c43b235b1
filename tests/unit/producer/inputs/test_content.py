"""What an input is, its content tells: formats of ours are read under any name, and what is none of them is refused."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from ddim_core.errors import Fault, InputError, RequestFaults
from producer.inputs import documents, read_rows
from producer.inputs.lists import read_lists
from producer.requests.model import Model
from producer.requests.rows import Row
from producer.requests.validate import RequestChecker, checked

WriteFile = Callable[[str, str | bytes], str]
Read = Callable[[str | bytes], list[str]]

OTHER = "must be JSON, CSV, TSV, Parquet or a prompt a line, got what looks like"


@pytest.fixture(params=["-", ".txt"])
def read(request: pytest.FixtureRequest, write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read prompts where no name tells what they are; a fault is raised."""

    def read_prompts(content: str | bytes) -> list[str]:
        data = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        return prompts("-" if request.param == "-" else write("p.txt", data))

    return read_prompts


def prompts(path: str) -> list[str]:
    rows = list(read_rows(path))
    faults = [row for row in rows if isinstance(row, Fault)]
    if faults:
        raise RequestFaults(faults)
    return [row.fields["prompt"] for row in rows if isinstance(row, Row)]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<a/>")
    return file.getvalue()


@pytest.mark.parametrize(
    "line",
    [
        "a cat, a dog",
        "1girl,solo,8k",
        "[masterpiece], a cat, (smile:1.2)",
        "[[dark]] forest",
        '["80s", "neon"] city',
        "{red|blue} star",
        "{colour} star",
        "{{colour}} star",
        "{style: anime} a girl",
        "<lora:shapes:0.8> a star",
        "<cat-toy> on a table",
        "flower, seed, soil",
        "a star; a moon",
        "ORC fights a dragon",
        "RIFF of a guitar",
        "- a star",
        "# a star",
        "'80s city",
        '"a star" on a sign',
        "seed",
        "null",
        "7",
    ],
)
def test_what_merely_looks_like_something_else_is_a_prompt(read: Read, line: str) -> None:
    """Braces, brackets, commas and words that are fields stand in prompts, too."""
    assert read(f"{line}\na second one, longer\n") == [line, "a second one, longer"]


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (zipped(), "a zip archive, as .xlsx, .ods and .docx are; unpack it first, or save the sheet as CSV (UTF-8)"),
        (b"BZh91AY&SY\x1a\xf5", "a bzip2 file; unpack it, or compress it with gzip or zstd"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF; save it as plain text (UTF-8)"),
        (gzip.compress(gzip.compress(b"a")), "a gzip file within another compressed one; unpack it first"),
        (b"ARROW1\0\0", "an Arrow file; write it as Parquet"),
        ("{\\rtf1 a star}", "rich text (RTF); save it as plain text (UTF-8)"),
        ("version https://git-lfs.github.com/spec/v1\noid x\n", "a Git LFS pointer in place of the file; git lfs pull"),
        ("<!DOCTYPE html>\n<html>", "HTML or XML; save it as plain text (UTF-8)"),
        ("\n<?xml version='1.0'?>", "HTML or XML; save it as plain text (UTF-8)"),
        ("---\nprompt: a\n", "YAML or a page's front matter; write it as JSON lines"),
        ("- prompt: a\n  seed: 1\n", "YAML; write it as JSON lines, or leave the names out"),
        ("a cat\nNegative prompt: ugly\nSteps: 20, Sampler: Euler\n", "the generation parameters of a web interface"),
        ('# mine\n[[requests]]\nprompt = "a cat"\n', "TOML or a script; write it as JSON lines"),
        ("prompts = ['a cat']\n", "TOML or a script; write it as JSON lines"),
        ('--prompt "a cat" --steps 20\n', "a script of options; write it as JSON lines"),
        ("{'prompt': 'a'}\n", "data as Python prints them; write it as JSON, as json.dumps"),
        ("[{'prompt': 'a'}]\n", "data as Python prints them"),
        ('{prompt: "a"}\n', "an object of JavaScript"),
        ('"a red star"\n"a blue star"\n', "texts as JSON, with quotes; write them without quotes (jq -r)"),
        (
            "caption,seed\na star,1\n",
            "a table of caption, seed; name its columns as the fields are (caption may be pro",
        ),
        (
            "Prompt,Seed\na star,1\n",
            "a table of Prompt, Seed; name its columns as the fields are (Prompt may be prompt)",
        ),
        ("prompt,colour\na star,red\n", "a table of prompt, colour;"),
        ("title;views\na star;1\na moon;2\n", "a table of title, views;"),
        ("| prompt | seed |\n|---|---|\n| a | 1 |\n", "a table of prompt, seed;"),
        ("1\ta star\n2\ta moon\n", "tab-separated values without a header; name the columns in a first line"),
        ("caption\na star\n", "a table of one column, caption; call the column prompt and the file .csv, or leave"),
    ],
)
def test_what_is_no_request_is_refused_with_what_it_looks_like(read: Read, content: str | bytes, looks: str) -> None:
    """One fault of the whole input, before a line of it becomes a prompt."""
    with pytest.raises(RequestFaults, match=rf": the input {OTHER} {re.escape(looks)}") as caught:
        read(content)
    assert caught.value.total == 1 and caught.value.faults[0].line is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"prompt": "a"}, {"prompt": "b"}]', ["a", "b"]),
        ('\n[\n {\n  "prompt": "a"\n },\n {"prompt": "b"}\n]\n', ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ('{\n  "prompt": "a"\n}\n{\n  "prompt": "b"\n}\n', ["a", "b"]),
        ('[{"prompt": "a"}]\n[{"prompt": "b"}]\n', ["a", "b"]),
        ('{"prompt": "a"}\r{"prompt": "b"}\r', ["a", "b"]),
        ('\ufeff{"prompt": "a"}\n\ufeff{"prompt": "b"}\n', ["a", "b"]),
        ("prompt,seed\na,1\n", ["a"]),
        ("seed;prompt\n1;a, b\n", ["a, b"]),
        ("prompt\tseed\na, b\t1\n", ["a, b"]),
        ("\ufeffsep=,\r\nprompt,seed\r\na,2\r\n", ["a"]),
        ('"sep=;"\nprompt;seed\na;2\n', ["a"]),
        (",prompt\n0,a\n1,b\n", ["a", "b"]),
        ("a\rb\rc\r", ["a", "b", "c"]),
        ("a\r\r\nb\r\r\n", ["a", "b"]),
        ("prompt,seed\ra,1\rb,2\r", ["a", "b"]),
        ("a\r\nb\r\n".encode("utf-16"), ["a", "b"]),
        ("prompt\tseed\r\né\t1\r\n".encode("utf-16"), ["é"]),
        (gzip.compress(b"prompt,seed\na,1\n"), ["a"]),
        ("\n \n", []),
    ],
)
def test_a_format_of_ours_is_read_without_a_name(read: Read, content: str | bytes, expected: list[str]) -> None:
    """As editors, spreadsheets, jq and pandas write it."""
    assert read(content) == expected


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            '[{"prompt": "a"},\n{"prompt": "b"}\n',
            "3: the array must end with ], got the end of the input; the rest was",
        ),
        ('[{"prompt": "a"},]', "1: the last element must have no comma after it, got one; the rest was not read"),
        ('[{"prompt": "a"}\n{"prompt": "b"}]', "2: elements must be separated by commas, got '{'; the rest was not"),
        ('[{"prompt": "a"},\n\n[1]]', "3: an element must be a JSON object or a text, got [1]"),
        (
            '[{"prompt": "a"},\n{"seed": 1, "seed": 2}]',
            "2: the element must be a JSON object, got 'seed' is given twice",
        ),
        ('[\n{"prompt": "a"},\n{"prompt": b}]', "3: the input must be JSON, got Expecting value in what begins"),
        ('{"prompt": "a"},\n{"prompt": "b"},\n', '1: the line must be a JSON object, got {"prompt": "a"}, (Extra data'),
        (
            '{"prompt": "a"}\u2028{"prompt": "b"}\u2028',
            '1: the line must be a JSON object, got {"prompt": "a"}\u2028{"prompt": "b"} (Extra data at column 16); li',
        ),
        (
            '{"requests": [{"prompt": "a"}]}',
            "1: a request must have fields such as prompt, got an object around a list; ",
        ),
        ('a star\n{"prompt": "b"}\n', "2: the line must be a prompt as those before it, got what looks like JSON"),
        (
            "a\n\ufeffb\n",
            "2: the line must be one prompt, got zero width no-break space (U+FEFF) at column 1; if lines",
        ),
        ("a\u0085b\n", "1: the line must be one prompt, got a next-line character (U+0085) at column 2; if lines end "),
        (
            "a\u2028b",
            "1: the line must be one prompt, got line separator (U+2028) at column 2; if lines end there, end ",
        ),
        ("a\u2029b", "1: the line must be one prompt, got paragraph separator (U+2029) at column 2"),
        ("a\nb\rc\n", "2: the line must be one prompt, got a carriage return (U+000D) at column 2"),
        ("a\rb\rc\n", "1: the line must be one prompt, got a carriage return (U+000D) at column 2"),
        ("a \x1b[31mred\n", "1: the line must be one prompt, got a control character (U+001B) at column 3"),
        ("ï»¿a star\n", "1: the line must be UTF-8 text, got a byte-order mark that was encoded twice; save the text "),
        ("a\n" * 40_000 + "b\0c\n", "40001: the line must be text, got NUL at column 2; convert the file from the enc"),
        ("un café\n".encode("latin-1"), "1: the line must be UTF-8 text, got byte 0xe9 at column 7; convert the file"),
        (
            "a\nb\n".encode("utf-16")[:-1],
            "2: the text must be UTF-16-LE as its byte-order mark says, got truncated data",
        ),
    ],
)
def test_a_line_that_would_be_read_otherwise_is_refused(read: Read, content: str | bytes, fault: str) -> None:
    """With its number, and with what is wrong."""
    with pytest.raises(RequestFaults, match=rf":{re.escape(fault)}"):
        read(content)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_an_encoding_without_a_mark_is_named_and_not_guessed(read: Read, codec: str) -> None:
    """The remedy leads to the text that it was: nearly every byte of it told the encoding."""
    name = codec.upper().replace("-LE", "LE").replace("-BE", "BE")
    with pytest.raises(RequestFaults, match=rf"what looks like {name} without one; .* iconv -f {name} -t UTF-8$"):
        read("a small blue star\r\na large ring é\r\n".encode(codec))


@pytest.mark.parametrize("content", [b"a\0b\n", bytes(range(256)), "图像\n红星\n".encode("utf-16-le")])
def test_nul_that_tells_no_encoding_leads_to_no_advice_about_one(read: Read, content: bytes) -> None:
    """Converted from a wrong encoding, a text would pass and read otherwise."""
    with pytest.raises(RequestFaults, match="the input must be text, got NUL bytes") as caught:
        read(content)
    assert "iconv" not in str(caught.value)


def test_a_column_alone_is_a_table_where_no_name_says_text(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Piped in, its first line is a header; in a file called .txt that cannot be told."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"prompt\na star\n")))
    assert prompts("-") == ["a star"]
    with pytest.raises(
        RequestFaults, match=r"a table of one column, prompt; call the column prompt and the file \.csv"
    ):
        prompts(write("p.txt", "prompt\na star\n"))


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt"])
def test_a_wrong_name_does_not_matter(write: WriteFile, suffix: str) -> None:
    """Arrays in .jsonl, JSON in .csv, tables in .json, Parquet in .csv."""
    table = pd.DataFrame({"seed": [1, None], "prompt": ["a", "b"]})
    contents = [table.to_json(orient="records"), table.to_json(orient="records", lines=True), table.to_csv(sep="\t")]
    file = io.BytesIO()
    table.to_parquet(file)
    for content in (*contents, table.to_csv(), file.getvalue()):
        assert prompts(write(f"p{suffix}", content)) == ["a", "b"]


@pytest.mark.parametrize("piece_bytes", [1, 2, 7, 64])
def test_an_array_is_read_an_element_at_a_time(
    write: WriteFile, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    """However the pieces of a file fall, with the line where each element begins."""
    monkeypatch.setattr(documents, "PIECE_BYTES", piece_bytes)
    elements = [{"prompt": f'é {n} "]}},\n', "seed": n} for n in range(30)]
    rows = list(read_rows(write("p.json", json.dumps(elements, indent=2, ensure_ascii=False))))
    assert [row.fields for row in rows if isinstance(row, Row)] == elements
    assert [row.line for row in rows] == list(range(2, 122, 4))


def test_an_array_without_an_end_does_not_fill_the_memory(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be decoded is bounded, as a line is."""
    monkeypatch.setattr(documents, "MAX_LINE_BYTES", 2**20)
    monkeypatch.setattr(documents, "PIECE_BYTES", 2**16)
    (fault,) = read_rows(write("p.json", '[{"prompt": "' + "a" * 2**22))
    assert (
        isinstance(fault, Fault) and fault.rule == "a request must have at most 1 MiB, got more; the rest was not read"
    )


def test_what_a_pipe_is_does_not_depend_on_how_it_delivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator that pauses after its first line gives the same run."""

    class Slow(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self._data: Iterator[int] = iter(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            byte = next(self._data, None)
            if byte is None:
                return 0
            buffer[0] = byte
            return 1

    for content in (b"caption,seed\na,1\n", b"[\n{\n", b"a\rb\r", "a\nb\n".encode("utf-16-le")):
        told = []
        for stream in (io.BytesIO(content), Slow(content)):
            monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=stream))
            told.append([str(row) for row in read_rows("-")])
        assert told[0] == told[1]


def test_standard_input_that_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed, or a folder that was redirected by mistake."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="standard input must be open to be read, got none; pipe the requests in"):
        list(read_rows("-"))

    class Folder(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise IsADirectoryError(21, "Is a directory")

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Folder()))
    with pytest.raises(InputError, match="got 'stdin': it is a folder"):
        list(read_rows("-"))


def test_lists_are_read_in_the_encodings_of_requests(tmp_path: Path) -> None:
    """With a mark, and never by a guess."""
    path, text = tmp_path / "lists.json", '{"colour": ["rosé", "blue"]}'
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes(text.encode(encoding))
        assert read_lists(str(path)) == {"colour": ["rosé", "blue"]}
    refused = {"utf-16-le": "UTF-16LE without one; save", "latin-1": r"byte 0xe9 at offset 16 .* \(iconv -f ENCODING"}
    for encoding, rule in refused.items():
        path.write_bytes(text.encode(encoding))
        with pytest.raises(InputError, match=f"^the lists .*{rule}"):
            read_lists(str(path))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ('{"a": ["x\\ud800"]}', "a must be valid Unicode text, got 'x\\\\ud800'"),
        ('{"a\\ud800": ["x"]}', "must have a name of letters, digits, _ and -"),
        ('{"a": ["x\\u0000"]}', "a must have no NUL, got 'x\\x00'"),
        ('{"a": ["x"], "a": ["y"]}', "the lists must be a JSON object .*'a' is given twice"),
    ],
)
def test_lists_hold_text_that_a_file_can_hold(write: WriteFile, content: str, rule: str) -> None:
    """One plain fault, never a crash nor a changed name."""
    with pytest.raises(InputError) as caught:
        read_lists(write("lists.json", content))
    assert str(caught.value).encode() and re.search(rule.replace("\\x00", "\\\\x00"), str(caught.value))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"metadata": {"k\ud800": "x"}}, "metadata must be valid Unicode text, got 'k\\ud800'"),
        ({"metadata": {"k": "x\udfff"}}, "metadata must be valid Unicode text, got 'x\\udfff'"),
        (
            {"scheduler": {"timestep_spacing\ud800": "x"}},
            "scheduler must be valid Unicode text, got 'timestep_spacing\\",
        ),
        ({"scheduler": {"trained_betas": [{"\ud800": 1}]}}, "scheduler must be valid Unicode text, got '\\ud800'"),
        ({"lists": {"k\ud800": ["x"]}}, "lists must be valid Unicode text, got 'k\\ud800'"),
        ({"sweep": {"negative_prompt": ["\ud800", "\ud801"]}}, "sweep must be valid Unicode text, got '\\ud800'"),
        ({"sweep": {"seed\ud800": [1]}}, "sweep must be valid Unicode text, got 'seed\\ud800'"),
        ({"custom_id": "\ud800"}, "custom_id must be valid Unicode text, got '\\ud800'"),
        ({"f\ud800": 1}, "a field's name must be valid Unicode text, got 'f\\ud800'"),
        ({"invert": {"image": "\ud800.png"}}, "invert must be valid Unicode text, got '\\ud800.png'"),
        ({"prompt": "a\0b"}, "prompt must have no NUL, got 'a\\x00b'"),
        ({"metadata": {"a\0": "b"}}, "metadata must have no NUL, got 'a\\x00'"),
    ],
)
def test_text_that_no_file_can_hold_is_one_fault(
    model: Model, write: WriteFile, fields: dict[str, object], fault: str
) -> None:
    """In a value or a name, however deep, of JSON lines as of arrays."""
    for path in (
        write("p.jsonl", json.dumps({"prompt": "a", **fields})),
        write("p.json", json.dumps([{"prompt": "a", **fields}])),
    ):
        with pytest.raises(RequestFaults) as caught:
            list(checked(read_rows(path), RequestChecker(model, {}), path))
        assert caught.value.total == 1
        assert str(caught.value).startswith(f"{path}:1: {fault}") and str(caught.value).encode()
