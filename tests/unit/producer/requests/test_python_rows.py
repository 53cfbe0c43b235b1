"""Rows as people with NumPy, pandas and Arrow have them: taken, or refused by one plain fault."""

from __future__ import annotations

import datetime
import enum
import io
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ddim_core.contracts.request import Request
from ddim_core.errors import InputError, RequestFaults
from ddim_core.storage.run_folder import RunFolder
from producer import Client
from producer.broker import Broker
from producer.inputs.objects import rows_of
from producer.requests.model import Model
from producer.requests.validate import RequestChecker, checked

FRAME = pd.DataFrame(
    {
        "prompt": ["a", "b"],
        "seed": [1, None],
        "custom_id": [5, 6],
        "metadata.label": ["x", None],
        "metadata.part": [7, 8],
        "metadata.is_new": [True, False],
        "scheduler.steps_offset": [1.0, None],
    }
)


class Colour(str, enum.Enum):
    """A text that has a name."""

    RED = "a red star"


class Odd:
    """A value that fails to be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def requests_of(model: Model, rows: Any) -> list[Request]:
    return list(checked(rows_of(rows), RequestChecker(model, {}), "requests"))


def taken(model: Model, rows: Any) -> list[dict[str, Any]]:
    sizes = {"height", "width"}
    return [request.model_dump(exclude_defaults=True, exclude=sizes) for request in requests_of(model, rows)]


@pytest.mark.parametrize(
    "table",
    [
        FRAME,
        FRAME.convert_dtypes(),
        FRAME.convert_dtypes(dtype_backend="pyarrow"),
        FRAME.to_dict("records"),
        [row for _, row in FRAME.iterrows()],
        pa.Table.from_pandas(FRAME),
        pa.Table.from_pandas(FRAME).to_batches()[0],
        pa.Table.from_pandas(FRAME).to_pylist(),
        FRAME.set_index(pd.Index([7, 9])),
    ],
    ids=["pandas", "nullable", "arrow types", "records", "iterrows", "table", "batch", "pylist", "index"],
)
def test_a_table_is_taken_however_it_is_held(model: Model, table: Any) -> None:
    """Columns are fields, what holds nothing leaves one out, and numbers that gaps made fractions are whole."""
    first, second = taken(model, table)
    assert first == {
        "prompt": "a",
        "seed": 1,
        "custom_id": "5",
        "metadata": {"label": "x", "part": "7", "is_new": "true"},
        "scheduler": {"steps_offset": 1},
    }
    assert second == {"prompt": "b", "custom_id": "6", "metadata": {"part": "8", "is_new": "false"}}


def test_rows_may_be_texts(model: Model) -> None:
    """A list, a column or an array of prompts; a generator is read once."""
    prompts: list[Any] = [
        ["a", "b"],
        np.array(["a", "b"]),
        pd.Series(["a", "b"]),
        pa.array(["a", "b"]),
        (p for p in "ab"),
    ]
    for each in prompts:
        assert [request.prompt for request in requests_of(model, each)] == ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"seed": np.int64(3), "num_inference_steps": np.int32(2)}, {"seed": 3, "num_inference_steps": 2}),
        ({"seed": np.float64(3.0), "eta": np.float32(0.5)}, {"seed": 3, "eta": 0.5}),
        ({"seed": np.array(4), "negative_prompt": np.str_("x")}, {"seed": 4, "negative_prompt": "x"}),
        ({"seed": Decimal(3), "guidance_scale": Decimal("2.5")}, {"seed": 3, "guidance_scale": 2.5}),
        ({"seed": np.nan, "eta": pd.NA, "guidance_scale": pd.NaT, "custom_id": None}, {}),
        ({"prompt": Colour.RED}, {"prompt": "a red star"}),
        ({"scheduler": {"clip_sample": np.bool_(True), "steps_offset": np.nan}}, {"scheduler": {"clip_sample": True}}),
        (
            {"metadata": {"a": np.int8(7), "b": 7.0, "c": True, "d": None}},
            {"metadata": {"a": "7", "b": "7.0", "c": "true"}},
        ),
        ({"metadata": {"a": datetime.date(2026, 1, 2)}}, {"metadata": {"a": "2026-01-02"}}),
        ({"custom_id": uuid.UUID(int=7)}, {"custom_id": "00000000-0000-0000-0000-000000000007"}),
        ({"metadata.a": "x", "custom_id": 7}, {"custom_id": "7", "metadata": {"a": "x"}}),
        ({"trace": {"frames": 3.0}}, {"trace": {"frames": 3}}),
    ],
)
def test_values_of_libraries_are_taken_as_pythons(
    model: Model, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Wherever they stand."""
    (found,) = taken(model, [{"prompt": "a", **fields}])
    assert found == {"prompt": "a", "custom_id": "000000000", **expected}


def test_arrays_stand_for_lists(model: Model) -> None:
    """Of betas, of a sweep's values, of seeds, and of words."""
    betas = np.linspace(1e-4, 0.02, 1000)
    (request,) = requests_of(model, [{"prompt": "a", "scheduler": {"trained_betas": betas}}])
    assert request.scheduler == {"trained_betas": betas.tolist()}
    row = {"prompt": "a {colour} star", "lists": {"colour": np.array(["red", "blue"])}, "sweep": {"seed": np.arange(2)}}
    swept = requests_of(
        model, [row, {"prompt": "a", "interpolate": {"seeds": np.array([1, 2]), "frames": np.int64(3)}}]
    )
    assert [(request.prompt, request.seed) for request in swept[:4:3]] == [("a red star", 0), ("a blue star", 1)]
    assert swept[4].interpolate is not None and swept[4].interpolate.seeds == (1, 2)


def generator() -> Iterator[float]:
    yield 0.5


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"prompt": b"a"}, "prompt must be text, got b'a'"),
        ({"prompt": {"a"}}, "prompt must be text, got {'a'}"),
        ({"seed": "3"}, "seed must be a whole number, got '3'"),
        ({"seed": True}, "seed must be a whole number, got True"),
        ({"seed": 10**5000}, "seed must be below 9223372036854775808, got a value of type int"),
        (
            {"seed": float(2**60)},
            "seed must be written without a point from 2^53 on, where floating-point numbers lose",
        ),
        ({"custom_id": 10**5000}, "custom_id must be text, got a value of type int"),
        ({"eta": Odd()}, "eta must be a number, got a value of type Odd"),
        (
            {"scheduler": {"steps_offset": Odd()}},
            "scheduler.steps_offset must be a whole number from 0 to 1000000, got a",
        ),
        (
            {"scheduler": {"trained_betas": generator()}},
            "scheduler.trained_betas must be a list of numbers, got <gener",
        ),
        ({"metadata": {3: "x"}}, "metadata must have texts as names, got 3"),
        ({"metadata": {"a": [1]}}, "metadata.a must be text, a number or a flag, got [1]"),
        ({"metadata": {"a": float("inf")}}, "metadata.a must be text, a number or a flag, got inf"),
        ({"sweep": {0: [1]}}, "sweep.0 must be one of "),
        ({3: "x"}, "a field must be named by a text, got 3"),
    ],
)
def test_what_has_no_plain_form_is_one_fault(model: Model, fields: dict[Any, Any], fault: str) -> None:
    """Of its field, with the row's number."""
    with pytest.raises(RequestFaults) as caught:
        requests_of(model, [{"prompt": "a", **fields}])
    assert caught.value.total == 1 and str(caught.value).startswith(f"requests:1: {fault}")


def test_what_is_nested_without_end_is_one_fault(model: Model) -> None:
    """A list that holds itself, and one deeper than any request."""
    endless: list[Any] = []
    endless.append(endless)
    for name, value in (("scheduler", {"trained_betas": endless}), ("metadata", {"a": endless})):
        with pytest.raises(RequestFaults, match=rf"^requests:1: {name}\."):
            requests_of(model, [{"prompt": "a", name: value}])


@pytest.mark.parametrize(
    ("rows", "got"),
    [
        ("a red star", "got 'a red star'; put a prompt into a list, or a file's name into a pathlib.Path"),
        (b"a", "got b'a'; put a prompt"),
        ({"prompt": "a red star"}, "got a single row; put it into a list"),
        (Request(prompt="a"), "got a single row; put it into a list"),
        ({"a", "b"}, "got a set, which has no order; put its rows into a list"),
        (FRAME.iloc[0], "got a single row; put it into a list"),
        (io.StringIO('{"prompt": "a"}\n'), "got an open file, whose lines need not be prompts; give its pathlib.Path"),
        (None, "got None"),
        (7, "got 7"),
    ],
)
def test_what_has_no_rows_is_refused(model: Model, rows: Any, got: str) -> None:
    """A text would be a prompt for each of its letters."""
    with pytest.raises(InputError, match=r"^the requests must be rows, as in .*, a table of pandas or Arrow") as caught:
        requests_of(model, rows)
    assert got in str(caught.value)


def test_a_row_that_is_none_is_a_fault_of_its_own(model: Model) -> None:
    """With its number; the others are checked, too."""
    with pytest.raises(RequestFaults) as caught:
        requests_of(model, [{"prompt": "a"}, 7, ("prompt", "b"), b"c", {"seed": -1, "prompt": "d"}])
    assert [fault.line for fault in caught.value.faults] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        (Path("p.jsonl"), r"a request must be .*, got .*Path\('p.jsonl'\); give a single Path in place of all rows"),
        (uuid.UUID(int=1), r"a request must be .*, got UUID\(.*\)"),
        (datetime.date(2026, 1, 1), r"a request must be .*, got datetime.date\(2026, 1, 1\)"),
        (
            '{"prompt": "a star"}\n',
            "a text must be a prompt, got what looks like JSON, .*; give what json.loads makes of it",
        ),
        ('[{"prompt": "a star"}]', "a text must be a prompt, got what looks like JSON, .*"),
    ],
)
def test_what_only_looks_like_a_prompt_as_text_is_none(model: Model, row: Any, rule: str) -> None:
    """A file's name or a line of JSON would be drawn."""
    with pytest.raises(RequestFaults, match=rf"^requests:2: {rule}$") as caught:
        requests_of(model, ["a", row])
    assert caught.value.total == 1


def test_an_index_with_the_name_of_a_field_is_that_field(model: Model) -> None:
    """As it is in the Parquet file of the same table; of an index with another name or none nothing is taken."""
    expected = requests_of(model, FRAME)
    assert requests_of(model, FRAME.set_index("custom_id")) == expected
    assert requests_of(model, FRAME.set_index(["custom_id", "metadata.label"])) == expected
    assert requests_of(model, FRAME.set_index(pd.Index(["x", "y"], name="place"))) == expected


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (FRAME.rename(columns={"seed": "sed"}), "got 'sed'; did you mean seed?"),
        (FRAME.set_index(FRAME["seed"]), "a column must be given once, got 'seed' 2 times"),
        (pd.DataFrame([["a", "b"]], columns=["prompt", "prompt"]), "a column must be given once, got 'prompt' 2 times"),
        (pd.DataFrame([["a"]]), "got '0'"),
    ],
)
def test_a_table_with_other_columns_is_refused_once(model: Model, frame: pd.DataFrame, fault: str) -> None:
    """Not once a row."""
    with pytest.raises(RequestFaults) as caught:
        requests_of(model, frame)
    assert fault in str(caught.value) and caught.value.total <= 2


def test_the_client_takes_paths_and_numbers_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the output, for a file of requests, for the run's seed and for defaults and lists."""
    monkeypatch.setattr(Broker, "ping", lambda broker: None)
    monkeypatch.setattr(Broker, "workers", lambda broker: [])
    monkeypatch.setattr("producer.runs.submission.enqueue", lambda folder, plan, broker: plan.chunk_count)
    (tmp_path / "p.txt").write_text("a {colour} star\n")
    run = Client().submit(
        tmp_path / "p.txt",
        out=tmp_path / "out",
        seed=np.int64(3),  # type: ignore[arg-type]
        defaults={"num_inference_steps": np.int64(4)},
        long_prompts="chunk",
        max_windows=np.int64(5),  # type: ignore[arg-type]
        lists={"colour": np.array(["red", "blue"])},  # type: ignore[dict-item]
    )
    lines = RunFolder(str(tmp_path / "out")).read_chunk(0)
    assert [(line.request.prompt, line.request.num_inference_steps) for line in lines] == [
        ("a red star", 4),
        ("a blue star", 4),
    ]
    assert Client().run(tmp_path / "out").plan.seed == run.plan.seed == 3
    assert run.plan.defaults["max_windows"] == 5
    for wrong in ({"seed": "3"}, {"defaults": [1]}, {"lists": "x"}):
        with pytest.raises(InputError, match=r"^the (run's seed|defaults|lists) must be a (whole number|mapping)"):
            Client().submit(["a"], out=tmp_path / "other", **wrong)  # type: ignore[arg-type]
    for name in ("container", "priority", "settings"):
        with pytest.raises(InputError, match=rf"^{name} must be one of \w+, .*, got 'none'$"):
            Client().submit(["a"], out=tmp_path / "other", **{name: "none"})  # type: ignore[arg-type]
