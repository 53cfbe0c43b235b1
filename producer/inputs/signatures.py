"""Files that hold no requests, told by how they begin, with what to do about each."""

from __future__ import annotations

import re

_UNPACK = "unpack it first"
_AS_CSV = "save the sheet as CSV (UTF-8)"
_AS_PARQUET = "write it as Parquet"
_AS_TEXT = "save it as plain text (UTF-8)"

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a gzip file within another compressed one", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file within another compressed one", _UNPACK),
    (b"BZh", "a bzip2 file", "unpack it, or compress it with gzip or zstd"),
    (b"\xfd7zXZ\0", "an xz file", "unpack it, or compress it with gzip or zstd"),
    (b"\x04\x22\x4d\x18", "an lz4 file", "unpack it, or compress it with gzip or zstd"),
    (b"PK\x03\x04", "a zip archive, as .xlsx, .ods and .docx are", f"{_UNPACK}, or {_AS_CSV}"),
    (b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", _AS_CSV),
    (b"%PDF", "a PDF", _AS_TEXT),
    (b"%!PS", "PostScript", _AS_TEXT),
    (b"{\\rtf", "rich text (RTF)", _AS_TEXT),
    (b"ARROW1", "an Arrow file", _AS_PARQUET),
    (b"FEA1", "a Feather file", _AS_PARQUET),
    (b"\xff\xff\xff\xff", "an Arrow stream", _AS_PARQUET),
    (b"ORC", "an ORC file", _AS_PARQUET),
    (b"Obj\x01", "an Avro file", _AS_PARQUET),
    (b"SQLite format 3\0", "an SQLite database", "write the table as CSV or Parquet"),
    (b"\x93NUMPY", "a NumPy array", "give it to the Python client"),
    (b"\x89HDF", "an HDF5 file", _AS_PARQUET),
    (b"\x89PNG", "a PNG image", "give the file of requests"),
    (b"\xff\xd8\xff", "a JPEG image", "give the file of requests"),
    (b"GIF8", "a GIF image", "give the file of requests"),
    (b"RIFF", "a RIFF file, as WebP images are", "give the file of requests"),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer in place of the file", "git lfs pull"),
)
# ORC and RIFF are letters that a prompt may begin with; the file has a byte after them that no text has.
_WITH_BINARY = {b"ORC", b"RIFF", b"BZh", b"GIF8", b"ARROW1", b"FEA1"}
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f\x80-\xff]")
_TAR = slice(257, 262)

_MARKUP = re.compile(
    r"<(?:!doctype\b|!--|\?xml\b|html\b|head\b|body\b|table\b|svg\b|rss\b|feed\b)|%YAML|%TAG", re.IGNORECASE
)
_TEXTS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"---[ \t]*(?:$|\n)"), "YAML or a page's front matter", "write it as JSON lines"),
    (
        re.compile(r"(?:- )?[\"']?(?:prompts?|negative_prompt|requests|custom_id)[\"']?:(?:\s|$)"),
        "YAML",
        "write it as JSON lines, or leave the names out",
    ),
    (
        re.compile(
            r"(?:(?:#[^\n]*|\[\[?[\w.-]+\]?\]|)[ \t]*\n)*(?:prompts?|negative_prompt|custom_id)[ \t]*=[ \t]*[\"'\[]"
        ),
        "TOML or a script",
        "write it as JSON lines, or leave the names out",
    ),
    (
        re.compile(r"(?:[^\n]*\n)*?(?:Negative prompt: |Steps: \d+, )"),
        "the generation parameters of a web interface",
        "write a prompt a line, or the parameters as JSON lines",
    ),
    (re.compile(r"--?(?:prompt|negative_prompt)[ =]"), "a script of options", "write it as JSON lines"),
)


def foreign(data: bytes) -> str | None:
    """Return what a file's first bytes are refused with, if they are those of a format that holds no requests."""
    for magic, kind, remedy in _MAGIC:
        if data.startswith(magic) and (magic not in _WITH_BINARY or _NO_TEXT.search(data[:64])):
            return refusal(kind, remedy)
    if data[_TAR] == b"ustar":
        return refusal("a tar archive", _UNPACK)
    return None


def foreign_text(text: str) -> str | None:
    """Return what a text is refused with that no format of ours begins like."""
    start = text.lstrip()
    if match := _MARKUP.match(start):
        return (
            refusal("YAML", "write it as JSON lines") if match[0].startswith("%") else refusal("HTML or XML", _AS_TEXT)
        )
    return None


def foreign_lines(text: str) -> str | None:
    """Return what a file of prompts is refused with that looks like something else."""
    start = text.lstrip()
    for pattern, kind, remedy in _TEXTS:
        if pattern.match(start):
            return refusal(kind, remedy)
    return None


def refusal(kind: str, remedy: str) -> str:
    """Return the rule that an input breaks which looks like ``kind``."""
    return f"the input must be JSON, CSV, TSV, Parquet or a prompt a line, got what looks like {kind}; {remedy}"
