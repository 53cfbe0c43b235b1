"""A row of the manifest has one column a field, and reads back as it was written."""

from __future__ import annotations

from dataclasses import asdict, fields

import pyarrow as pa

from ddim_core.contracts.record import FAILED, RECORD_SCHEMA, Record, record_from_row

FAILURE = Record(
    key="000000000",
    custom_id="x",
    request_index=0,
    image=0,
    status=FAILED,
    error_class="SampleError",
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
    metadata="{}",
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


def test_the_schema_is_the_record() -> None:
    """Columns that may be absent are those that a failed image lacks."""
    assert RECORD_SCHEMA.names == [field.name for field in fields(Record)]
    nullable = {field.name for field in RECORD_SCHEMA if field.nullable}
    assert nullable == {"error_class", "error_message", "path", "size_bytes", "sha256"}


def test_a_record_survives_the_table() -> None:
    """The largest seed, too."""
    (row,) = pa.Table.from_pylist([asdict(FAILURE)], schema=RECORD_SCHEMA).to_pylist()
    assert record_from_row(row) == FAILURE
