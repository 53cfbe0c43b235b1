"""Compressed input reads like plain input, and one that is cut short or damaged is refused with its line."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddim_core.errors import Fault
from producer.inputs import read_rows, streams
from producer.requests.rows import Row

WriteFile = Callable[[str, str | bytes], str]

LINES = b"".join(b'{"prompt": "prompt number %d", "seed": %d}\n' % (n, n * 7919 % 10007) for n in range(5000))


def compressed(data: bytes, codec: Literal["gzip", "zstd"]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def fields_of(prompts: str) -> list[dict[str, object]]:
    rows = list(read_rows(prompts))
    assert not [row for row in rows if isinstance(row, Fault)]
    return [row.fields for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("p.jsonl.gz", "gzip"), ("p.jsonl.zst", "zstd"), ("P.JSONL.ZSTD", "zstd"), ("p.jsonl", "gzip")],
)
def test_a_compressed_file_is_told_by_its_first_bytes(
    write: WriteFile, name: str, codec: Literal["gzip", "zstd"]
) -> None:
    """Also where its name says nothing of it: some tools compress and keep the name."""
    plain = fields_of(write("plain.jsonl", LINES))
    assert fields_of(write(name, compressed(LINES, codec))) == plain
    assert len(plain) == 5000


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_several_streams_in_one_file_are_one_input(write: WriteFile, codec: Literal["gzip", "zstd"]) -> None:
    """As ``cat a.gz b.gz`` and parallel compressors write them."""
    path = write(
        "p.txt.gz" if codec == "gzip" else "p.txt.zst", compressed(b"a\nb", codec) + compressed(b"c\nd\n", codec)
    )
    assert [fields["prompt"] for fields in fields_of(path)] == ["a", "bc", "d"]


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
@pytest.mark.parametrize("format_", ["jsonl", "csv", "txt"])
def test_a_truncated_file_is_a_fault_of_the_line_where_it_ends(
    write: WriteFile, codec: Literal["gzip", "zstd"], format_: str
) -> None:
    """Half of the requests must not pass for all of them."""
    content = {"jsonl": LINES, "csv": b"prompt\n" + b"a star\n" * 90_000, "txt": LINES}[format_]
    suffix = streams_suffix(codec)
    path = write(f"p.{format_}{suffix}", compressed(content, codec)[:-9])
    *rows, fault = read_rows(path)
    assert isinstance(fault, Fault) and fault.line is not None
    assert len(rows) < content.count(b"\n")
    assert fault.line == len(rows) + 1 + (format_ == "csv")
    rule = rf"the {codec} stream must be whole, but ends here or is damaged \(.+\); the rest was not read"
    assert re.fullmatch(f"{re.escape(path)}:{fault.line}: {rule}", str(fault))


def streams_suffix(codec: str) -> str:
    return next(suffix for suffix, name in streams.SUFFIXES.items() if name == codec)


def test_a_damaged_stream_is_refused(write: WriteFile) -> None:
    """A gzip file knows a checksum of its content."""
    data = bytearray(compressed(LINES, "gzip"))
    data[-8] ^= 1
    (fault,) = (row for row in read_rows(write("p.jsonl.gz", bytes(data))) if isinstance(row, Fault))
    assert "damaged" in fault.rule


@pytest.mark.parametrize(("name", "codec"), [("p.jsonl.gz", "gzip"), ("p.jsonl.zst", "zstd")])
@pytest.mark.parametrize("content", [b'{"prompt": "a"}\n', b""])
def test_a_name_that_promises_compression_must_keep_its_word(
    write: WriteFile, name: str, codec: str, content: bytes
) -> None:
    """An empty file of that name is what a transfer leaves that failed at once."""
    path = write(name, content)
    (fault,) = read_rows(path)
    assert str(fault) == (
        f"{path}: the file must be compressed with {codec} as its name says, got {content[:4]!r} at its start"
    )


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_standard_input_may_be_compressed(monkeypatch: pytest.MonkeyPatch, codec: Literal["gzip", "zstd"]) -> None:
    """Its format is told after that, by its first character."""
    for content, expected in ((LINES, 5000), (b"a star\na circle\n", 2)):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(compressed(content, codec))))
        assert len(fields_of("-")) == expected


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_parquet_may_be_piped_and_compressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: Literal["gzip"] | None
) -> None:
    """Its directory stands at its end, so it is kept in a temporary file first."""
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": ["a", "b"], "seed": [1, None]}), path)
    content = path.read_bytes() if codec is None else compressed(path.read_bytes(), codec)
    piped = SimpleNamespace(buffer=io.BufferedReader(streams.Pieces([content[:100], content[100:]])))
    monkeypatch.setattr("sys.stdin", piped)
    assert fields_of("-") == [{"prompt": "a", "seed": 1}, {"prompt": "b"}]
    if codec:
        (tmp_path / "p.parquet.gz").write_bytes(content)
        assert fields_of(str(tmp_path / "p.parquet.gz")) == fields_of(str(path))


def test_faults_after_a_damaged_file_are_still_found(write: WriteFile) -> None:
    """All faults show at once, whichever file they are in."""
    broken = write("a.jsonl.gz", compressed(LINES, "gzip")[:-9])
    faults = [row for row in read_rows(broken, write("b.jsonl", "no object\n")) if isinstance(row, Fault)]
    assert [Path(fault.source).name for fault in faults] == ["a.jsonl.gz", "b.jsonl"]
