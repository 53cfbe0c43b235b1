"""Whatever the encoding, line ends, format or compression: the same prompts are read, or a fault says why not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddim_core.errors import FleetError
from ddim_core.schedule import ScheduleConfig
from producer.inputs import read_rows
from producer.inputs.content import looks_json
from producer.inputs.objects import rows_of
from producer.requests.model import Model
from producer.requests.validate import RequestChecker, checked

MODEL = Model(
    name="shapes",
    digest="sha256:0",
    schedule=ScheduleConfig(prediction_type="v_prediction"),
    size_factor=4,
    default_height=64,
    default_width=64,
)
STEADY = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Without what begins a file for another reason: the mark of a byte order, right or turned around.
_CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\ufffe")
_STARTS = ("[", "{", '{"a": ', '["', "prompt,", "- ", "a, b", "#", "'", '"', "\t", "<", "PAR1", "1\t", "é", "图")
TEXTS = st.builds(str.__add__, st.sampled_from(("", *_STARTS)), st.text(_CHARACTERS, min_size=1, max_size=12)).filter(
    str.strip
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
ENDS = ("\n", "\r\n", "\r", "\x85", "\u2028", "\u2029", "\x0b")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", "-")


def prompts_in(data: bytes, suffix: str) -> list[str] | None:
    """Return the prompts of an input, or None if it is refused; anything but a fault is raised."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder) / f"p{suffix}"
        path.write_bytes(data)
        patch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        rows = read_rows("-" if suffix == "-" else str(path))
        try:
            return [request.prompt for request in checked(rows, RequestChecker(MODEL, {}), "input")]
        except FleetError as exc:
            assert str(exc).encode()  # it can be printed
            return None


def as_table(prompts: Sequence[str], **dialect: Any) -> str:
    text = io.StringIO()
    if any("\r" in prompt for prompt in prompts):
        dialect["quoting"] = csv.QUOTE_ALL  # Python's writer leaves it bare, where it belongs to the line's end
    table = csv.writer(text, **dialect)
    table.writerows([["seed", "prompt"], *([number, prompt] for number, prompt in enumerate(prompts))])
    return text.getvalue()


WRITERS: dict[str, Callable[[Sequence[str]], str]] = {
    "json lines": lambda prompts: "".join(json.dumps({"prompt": each}) + "\n" for each in prompts),
    "as it is": lambda prompts: "".join(json.dumps({"prompt": each}, ensure_ascii=False) + "\r\n" for each in prompts),
    "array": lambda prompts: json.dumps([{"prompt": each} for each in prompts], ensure_ascii=False),
    "texts": lambda prompts: json.dumps(prompts, indent=1),
    "indented": lambda prompts: "\n".join(json.dumps({"prompt": each}, indent=2) for each in prompts),
    "csv": lambda prompts: as_table(prompts, lineterminator="\n"),
    "old mac": lambda prompts: as_table(prompts, lineterminator="\r"),
    "tsv": lambda prompts: as_table(prompts, delimiter="\t"),
    "semicolons": lambda prompts: as_table(prompts, delimiter=";"),
    "excel": lambda prompts: "sep=;\r\n" + as_table(prompts, delimiter=";"),
    "quoted": lambda prompts: as_table(prompts, quoting=csv.QUOTE_ALL),
}


@STEADY
@given(st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from(ENDS), st.sampled_from(ENCODINGS), st.booleans())
def test_lines_of_text_are_the_prompts_or_refused(prompts: list[str], end: str, encoding: str, piped: bool) -> None:
    """A text that is read otherwise makes images that nobody asked for."""
    kept = [prompt for prompt in prompts if end not in prompt and "\n" not in prompt]
    data = "".join(prompt + end for prompt in kept).encode(encoding)
    found = prompts_in(data, "-" if piped else ".txt")
    assert found is None or found == [prompt.strip() for prompt in kept]


@pytest.mark.parametrize("writer", WRITERS)
@settings(STEADY, max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from(ENCODINGS), st.sampled_from(SUFFIXES), st.booleans())
def test_a_format_is_told_by_what_it_holds(
    writer: str, prompts: list[str], encoding: str, suffix: str, packed: bool
) -> None:
    """Under any name, piped in, compressed and in any encoding."""
    data = WRITERS[writer](prompts).encode(encoding)
    found = prompts_in(gzip.compress(data) if packed else data, suffix)
    assert found is None or found == prompts


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_people_write_is_read(writer: str, suffix: str, encoding: str) -> None:
    """Refusing everything would be sound, too."""
    prompts = ["a red star, large", 'a "blue" star; {small}', "ein grüner Stern", "图像", "a\ttab", " 7.0"]
    assert prompts_in(WRITERS[writer](prompts).encode(encoding), suffix) == prompts


@pytest.mark.parametrize("suffix", [".parquet", ".csv", "-"])
@settings(STEADY, max_examples=30)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_parquet_and_python_give_the_same_prompts(suffix: str, prompts: list[str]) -> None:
    """Under any name, and from a table in memory."""
    table = pa.table({"prompt": prompts})
    file = io.BytesIO()
    pq.write_table(table, file)
    found = prompts_in(file.getvalue(), suffix)
    assert (found is None and any("\0" in prompt for prompt in prompts)) or found == prompts
    expected = [{"prompt": prompt} for prompt in prompts]
    for given_rows in (table, [{"prompt": np.str_(prompt)} for prompt in prompts]):
        assert [getattr(row, "fields", None) for row in rows_of(given_rows)] == expected
    for row, prompt in zip(rows_of(prompts), expected, strict=True):  # in the place of a row, JSON is no prompt
        assert getattr(row, "fields", None) == (None if looks_json(prompt["prompt"].lstrip()) else prompt)


_MAGIC = [
    b"PAR1",
    b"\x1f\x8b\x08\0",
    b"\x28\xb5\x2f\xfd",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xff\xfe\0\0",
    b"\xef\xbb\xbf",
    b'[{"',
]
_PIECES = [
    *_MAGIC,
    b"prompt,seed\n",
    b'{"prompt": "a"}\n',
    b"\r",
    b'"',
    b"\0",
    b"sep=;\n",
    b"]",
    b"\xed\xa0\x80",
    b"PAR1",
]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".csv.gz", ".txt.zst"])
@settings(STEADY, max_examples=120)
@given(st.lists(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=20)), max_size=8))
def test_any_bytes_give_requests_or_faults(suffix: str, pieces: list[bytes]) -> None:
    """No input ends in a traceback."""
    prompts_in(b"".join(pieces), suffix)


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.binary(max_size=3),
    st.dates(),
    st.decimals(),
    st.uuids(),
    st.integers(0, 100).map(np.int32),
    st.floats(width=32).map(np.float32),
    st.booleans().map(np.bool_),
    st.just(np.datetime64("NaT")),
    st.lists(st.integers(0, 9), max_size=3).map(np.array),
    st.builds(pow, st.just(10), st.just(5000)),
    st.just(Decimal("NaN")),
    st.frozensets(st.integers(), max_size=2),
    st.builds(object),
)
_KEYS = st.one_of(
    st.sampled_from(["prompt", "seed", "scheduler", "metadata", "sweep", "lists", "trace", "invert", "interpolate"]),
    st.sampled_from(
        ["eta", "custom_id", "sweep_mode", "metadata.x", "scheduler.clip_sample", "range", "body", "image"]
    ),
    st.text(st.characters(), max_size=3),
    st.integers(),
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=6
)


@settings(STEADY, max_examples=400)
@given(st.lists(st.dictionaries(_KEYS, _VALUES, max_size=5) | _VALUES, max_size=3), st.dictionaries(_KEYS, _VALUES))
def test_any_rows_of_python_give_requests_or_faults(rows: list[Any], lists: dict[Any, Any]) -> None:
    """Whatever stands in a row, and wherever."""
    try:
        for request in checked(rows_of(rows), RequestChecker(MODEL, {}), "requests"):
            assert request.model_dump_json().encode()
    except FleetError as exc:
        assert str(exc).encode()
    try:
        rows_of(lists)
    except FleetError:
        return
    raise AssertionError("a mapping is no list of rows")
