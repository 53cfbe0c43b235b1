"""A row of the manifest has one column a field, and reads back as it was written."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.contracts.record import (
    FAILED,
    RECORD_SCHEMA,
    Record,
    column_of,
    metadata_text,
    record_from_row,
    spec_of,
    way_columns,
)
from ddim_core.contracts.sample import SampleSpec
from ddim_core.contracts.start import Between, Picture, Start
from ddim_core.schedule import DOWN, Glimpse, Path, RoundTrip, ScheduleConfig

FAILURE = Record(
    key="000000000",
    custom_id="x",
    request_index=0,
    image=0,
    status=FAILED,
    error_code="not_finite",
    error_class="NotFiniteError",
    error_message="the image must be finite",
    prompt="a",
    negative_prompt="",
    seed=2**63 - 1,
    image_index=0,
    num_inference_steps=20,
    guidance_scale=4.0,
    guidance_rescale=0.7,
    eta=0.0,
    height=64,
    width=64,
    scheduler="{}",
    metadata={"split": "train"},
    model="shapes",
    model_digest="sha256:0",
    format="png",
    device_kind="cpu",
    device="cpu:0",
    slots=8,
    dtype="float32",
    worker="w",
    versions="{}",
    seconds=1.5,
)

SPEC = SampleSpec(
    prompt="a\n图",
    negative_prompt="b",
    seed=2**63 - 1,
    image_index=3,
    class_label=207,
    num_inference_steps=3,
    guidance_scale=0.1 + 0.2,
    guidance_rescale=0.7,
    eta=1 / 3,
    height=8,
    width=16,
    schedule=ScheduleConfig(),
    long_prompts="chunk",
    windows=3,
)


def written(records: list[Record]) -> pa.Table:
    """Return records as a part holds them."""
    return pa.table({name: column_of(records, name) for name in RECORD_SCHEMA.names}, schema=RECORD_SCHEMA)


def test_the_schema_is_the_record() -> None:
    """Columns that may be absent: what a failed image, a short prompt, other kinds of requests or devices lack."""
    assert RECORD_SCHEMA.names == [field.name for field in fields(Record)]
    nullable = {field.name for field in RECORD_SCHEMA if field.nullable}
    assert nullable == {
        "error_code",
        "error_class",
        "error_message",
        "prompt_used",
        "negative_prompt_used",
        "prompt_tokens",
        "negative_prompt_tokens",
        "class_label",
        "quality",
        "path",
        "size_bytes",
        "sha256",
        "cpu_threads",
        "to_seed",
        "fraction",
        "steps_taken",
        "source",
        "reconstruction_error",
        "latents",
        "latents_size_bytes",
        "latents_sha256",
    }
    assert {field.type for field in RECORD_SCHEMA} == {pa.string(), pa.int64(), pa.float64()}


def test_a_record_survives_the_table() -> None:
    """The largest seed, too."""
    (row,) = written([FAILURE]).to_pylist()
    assert record_from_row(row) == FAILURE


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.dictionaries(TEXTS, TEXTS, max_size=5))
def test_metadata_is_a_mapping_here_and_text_in_the_table(metadata: dict[str, str]) -> None:
    """Whatever it holds comes back; equal metadata are equal text, which parts written before this held, too."""
    (row,) = written([replace(FAILURE, metadata=metadata)]).to_pylist()
    assert row["metadata"] == json.dumps(metadata, ensure_ascii=False, sort_keys=True)
    assert record_from_row(row).metadata == metadata
    assert metadata_text(dict(reversed(metadata.items()))) == row["metadata"]


def test_metadata_that_is_no_mapping_is_refused() -> None:
    """On the way in, where a text would become a text within JSON; and on the way out, where a part is damaged."""
    with pytest.raises(TypeError, match=r"^metadata must be a mapping, got '{}'$"):
        column_of([replace(FAILURE, metadata="{}")], "metadata")
    (row,) = written([FAILURE]).to_pylist()
    damaged = ("", "[]", "nul", '{"a": "\x07"}', "[" * 100_000)
    for name, text in product(("metadata", "scheduler", "versions"), damaged):
        with pytest.raises(pa.ArrowInvalid, match=f"^column {name} must be a JSON object, got '"):
            record_from_row({**row, name: text})


@pytest.mark.parametrize(
    ("start", "path"),
    [
        (None, DOWN),
        (Between(2**63 - 1, 1 / 3), DOWN),
        (None, Glimpse(2)),
        (Picture(f"inputs/{'0' * 64}.png", np.zeros((1, 1, 3), np.uint8)), RoundTrip()),
    ],
)
def test_a_row_holds_all_that_its_image_is_made_from(start: Start | None, path: Path) -> None:
    """Through JSON and Parquet: every field of the schedule, floats to the last bit, seeds of 63 bits."""
    schedule = ScheduleConfig(
        num_train_timesteps=3,
        trained_betas=(0.1, 1 / 3, 0.7),
        clip_sample_range=2 / 3,
        timestep_spacing="trailing",
        variance="larger",
    )
    spec = replace(SPEC, schedule=schedule, start=start, path=path)
    apart = ("schedule", "start", "path")
    row = replace(FAILURE, **{name: getattr(spec, name) for name in asdict(SPEC) if name not in apart})
    row = replace(row, scheduler=json.dumps(schedule.to_mapping()), **way_columns(spec))
    (back,) = written([row]).to_pylist()
    assert spec_of(record_from_row(back)) == spec
