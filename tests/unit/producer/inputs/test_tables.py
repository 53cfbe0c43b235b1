"""Tables give the same rows as JSON lines do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddim_core.errors import Fault, RequestFaults
from producer.inputs import read_rows
from producer.inputs.tables import json_or_text
from producer.requests.model import Model
from producer.requests.rows import Row
from producer.requests.validate import RequestChecker, checked

WriteFile = Callable[[str, str | bytes], str]


def rows_of(prompts: str) -> list[Row]:
    rows = list(read_rows(prompts))
    assert not [row for row in rows if isinstance(row, Fault)]
    return [row for row in rows if isinstance(row, Row)]


def faults_of(prompts: str) -> list[str]:
    return [str(row).replace(prompts, "FILE") for row in read_rows(prompts) if isinstance(row, Fault)]


def parquet(path: Path, columns: dict[str, Any]) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_a_csv_column_is_a_field_or_one_within_an_object(write: WriteFile) -> None:
    """Empty cells leave the field to its default; scheduler values are read as JSON where they are that."""
    path = write(
        "p.csv",
        "prompt,seed,metadata.label,scheduler.timestep_spacing,scheduler.clip_sample\n"
        "a,3,circle,trailing,false\n"
        '"b, with\nline",,,,\n',
    )
    first, second = rows_of(path)
    assert first.fields == {
        "prompt": "a",
        "seed": "3",
        "metadata": {"label": "circle"},
        "scheduler": {"timestep_spacing": "trailing", "clip_sample": False},
    }
    assert second.fields == {"prompt": "b, with\nline"}
    assert not second.typed


def test_whole_objects_may_stand_in_a_csv_cell(write: WriteFile) -> None:
    """A table that was exported from JSON lines reads back."""
    path = write("p.csv", 'prompt,scheduler\na,"{""steps_offset"": 1}"\n')
    assert rows_of(path)[0].fields == {"prompt": "a", "scheduler": {"steps_offset": 1}}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("prompt,sed\na,1\n", "FILE:1: a column must be one of prompt, .*, got 'sed'; did you mean seed?"),
        (
            "promt\na\n",
            "FILE:1: a column must be named 'prompt' or 'class_label' or 'num_images_per_prompt', got promt; "
            "'promt' may be it",
        ),
        ("prompt,seed,seed\na,1,2\n", "FILE:1: a column must be given once, got 'seed' 2 times"),
        ("prompt,seed\na,1\nb\n", "FILE:3: a record must have 2 cells as the header has, got 1"),
        ("prompt,seed\na,1,2\n", "FILE:2: a record must have 2 cells as the header has, got 3"),
        (
            'prompt\n"a',
            "FILE:2: the line must be CSV, got unexpected end of data; the rest was not read; a quote is never closed",
        ),
        ('prompt\n"a"b\n', "FILE:2: the line must be CSV, got ',' expected after '\"'; the rest was not read"),
        ("metadata.\na\n", "FILE:1: a column must be one of .*, got 'metadata.'.*"),
    ],
)
def test_a_csv_that_is_out_of_shape_is_refused(write: WriteFile, content: str, fault: str) -> None:
    """A shifted cell would put one field's value into another."""
    assert any(re.fullmatch(fault.replace("?", r"\?"), each) for each in faults_of(write("p.csv", content)))


def test_a_bad_header_is_told_once_and_not_for_every_line(write: WriteFile) -> None:
    """A table with another separator has nothing but bad lines, and that it has is the fault."""
    assert faults_of(write("p.csv", "prompt|seed\n" + "a|1\n" * 50)) == [
        "FILE:1: columns must be separated by commas, got '|' in 'prompt|seed'"
    ]


def test_a_parquet_column_is_a_field_or_one_within_an_object(tmp_path: Path) -> None:
    """Null leaves the field to its default, in structs and maps, too."""
    path = parquet(
        tmp_path / "p.parquet",
        {
            "prompt": ["a", "b"],
            "seed": [3, None],
            "metadata.label": ["circle", None],
            "scheduler": [{"steps_offset": 1, "clip_sample": None}, None],
            "metadata": pa.array([[("k", "v")], []], pa.map_(pa.string(), pa.string())),
        },
    )
    first, second = rows_of(path)
    assert first.fields == {
        "prompt": "a",
        "seed": 3,
        "metadata": {"label": "circle", "k": "v"},
        "scheduler": {"steps_offset": 1},
    }
    assert (second.line, second.fields) == (2, {"prompt": "b", "metadata": {}})


def test_a_parquet_column_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """The whole table is refused once, not every row of it."""
    path = parquet(tmp_path / "p.parquet", {"promt": ["a"] * 3})
    assert len(faults_of(path)) == 2
    assert (
        faults_of(path)[1]
        == "FILE: a column must be named 'prompt' or 'class_label' or 'num_images_per_prompt', got promt; "
        "'promt' may be it"
    )


def test_what_is_no_parquet_file_is_refused(write: WriteFile) -> None:
    """What pyarrow says follows in one line; what begins otherwise is called what it looks like."""
    (fault,) = faults_of(write("p.parquet", b"PAR1 and nothing else"))
    assert re.fullmatch(r"FILE: a \.parquet file must be a Parquet table, got 'FILE': [^\n]+", fault)
    (fault,) = faults_of(write("p.parquet", "a star\n"))
    assert fault.endswith("got what looks like none of them by its name, .parquet; rename it after what it holds")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("prompt,seed\na,1.0\nb,\n", [{"prompt": "a", "seed": "1.0"}, {"prompt": "b"}]),
        ("prompt;seed\na, b;1\n", [{"prompt": "a, b", "seed": "1"}]),
        ("sep=|\nprompt|seed\na|1\n", [{"prompt": "a", "seed": "1"}]),
        ("sep=\t\r\nprompt\tseed\r\na\t1\r\n", [{"prompt": "a", "seed": "1"}]),
        (",prompt\n0,a\n1,b\n", [{"prompt": "a"}, {"prompt": "b"}]),
        ("Unnamed: 0,prompt\n0,a\n", [{"prompt": "a"}]),
        ("prompt,seed,,\na,1,,\n", [{"prompt": "a", "seed": "1"}]),
        ('prompt, negative_prompt\na, "b, c"\n', [{"prompt": "a", "negative_prompt": "b, c"}]),
        ("prompt,negative_prompt\n a, b\n", [{"prompt": " a", "negative_prompt": " b"}]),
        (f'prompt\n"{"x" * 200_000}"\n', [{"prompt": "x" * 200_000}]),
    ],
)
def test_tables_of_spreadsheets_and_pandas_are_read(
    write: WriteFile, content: str, expected: list[dict[str, str]]
) -> None:
    """Other separators, an index, columns without a name, cells of any length; spaces as the header has them."""
    assert [row.fields for row in rows_of(write("p.csv", content))] == expected


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            ",prompt\n0,a\n2,b\n",
            "FILE:3: a column without a name must count rows from 0, as an index of pandas, got '2' for row 1; "
            "name it, or write the table without it (pandas: index=False)",
        ),
        ("prompt,seed,\na,1,x\n", "FILE:2: a column without a name must count rows from 0, .* got 'x' for row 0; .*"),
        ("prompt,seed\n1,a\ufeffprompt,seed\n", "FILE:2: the line must have no byte-order mark, got one; .*"),
        ("prompt,seed\na,1\rb,2\n", "FILE:2: the line must be CSV, got new-line .*; lines must end in line feeds"),
        ('prompt,seed\r"a\rb",1\r', "FILE:3: a cell must have no line end of its own where lines end in .*"),
        ("prompt,seed\u2028a,1\u2028", "FILE:1: lines must end in line feeds, got U+2028 in the header"),
        ("caption,seed\na,1\n", "FILE:1: a column must be one of .*, got 'caption'; did you mean prompt?"),
    ],
)
def test_a_table_that_would_be_read_otherwise_is_refused(write: WriteFile, content: str, fault: str) -> None:
    """An index that is more than a count, files put together, line ends in odd places."""
    pattern = re.escape(fault).replace(re.escape(".*"), ".*")
    found = faults_of(write("p.csv", content))
    assert re.fullmatch(pattern, found[0]), found


@pytest.mark.parametrize("word", ["True", "TRUE", "true", " true "])
def test_flags_are_read_as_python_and_excel_write_them(write: WriteFile, word: str) -> None:
    """And on the command line, as ``--scheduler clip_sample=True``."""
    (row,) = rows_of(write("p.csv", f"prompt,scheduler.clip_sample\na,{word}\n"))
    assert row.fields["scheduler"] == {"clip_sample": True}
    assert json_or_text("FALSE") is False and json_or_text("Falsehood") == "Falsehood"


def test_a_table_gives_the_same_requests_in_every_format(model: Model, tmp_path: Path) -> None:
    """Ids that are numbers, labels that are numbers, whole numbers with gaps."""
    table = pd.DataFrame(
        {
            "prompt": ["a", "b"],
            "custom_id": [7, 8],
            "seed": [1, None],
            "metadata.part": [7, 8],
            "metadata.x": [7.0, 0.5],
        }
    )
    table.to_csv(tmp_path / "p.csv")
    table.to_csv(tmp_path / "p.tsv", sep="\t", index=False)
    table.set_index(pd.Index([0, 1])).to_parquet(tmp_path / "p.parquet")
    rows = [
        {"prompt": p, "custom_id": i, "seed": s, "metadata": {"part": i, "x": x}}
        for p, i, s, x in (("a", 7, 1, 7.0), ("b", 8, None, 0.5))
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    batch = [
        {"custom_id": row.pop("custom_id"), "method": "POST", "url": "/v1/images/generations", "body": row}
        for row in rows
    ]
    (tmp_path / "batch.jsonl").write_text("".join(json.dumps(line) + "\n" for line in batch))
    for path in tmp_path.iterdir():
        first, second = checked(read_rows(str(path)), RequestChecker(model, {}), "p")
        assert (first.custom_id, first.seed, first.metadata) == ("7", 1, {"part": "7", "x": "7.0"}), path
        assert (second.custom_id, second.seed, second.metadata) == ("8", None, {"part": "8", "x": "0.5"}), path


@pytest.mark.parametrize("seed", ["1152921504606846976.0", "9007199254740992.0"])
def test_a_whole_number_that_lost_digits_is_refused(model: Model, write: WriteFile, seed: str) -> None:
    """A column with gaps turned it into a floating-point number; another seed makes another image."""
    path = write("p.csv", f"prompt,seed\na,{seed}\n")
    with pytest.raises(RequestFaults, match=r"p\.csv:2: seed must be written without a point from 2\^53 on"):
        list(checked(read_rows(path), RequestChecker(model, {}), path))
