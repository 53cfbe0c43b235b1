"""Tables give the same rows as JSON lines do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddim_core.errors import Fault
from producer.inputs import read_rows
from producer.rows import Row

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
