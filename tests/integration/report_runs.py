"""Runs of many rows and few images, for a report that must be fast."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from ddim_core.contracts.plan import image_key
from ddim_core.contracts.record import FAILED, RECORD_SCHEMA
from ddim_core.storage.run_folder import RunFolder, part_path


def write_rows(folder: RunFolder, count: int) -> None:
    """Fill the parts of a small run, column by column, with so many failed rows: these need no images."""
    row = folder.store.get(part_path(0))
    values = pq.read_table(io.BytesIO(row)).slice(0, 1).to_pylist()[0]
    values |= {
        "status": FAILED,
        "error_code": "not_finite",
        "error_class": "NotFiniteError",
        "error_message": "the image holds NaN",
        "path": None,
    }
    chunks = sorted(folder.committed_chunks())
    each = count // len(chunks) + 1
    for chunk in chunks:
        numbers = range(chunk * each, min(count, (chunk + 1) * each))
        columns = {name: [value] * len(numbers) for name, value in values.items()}
        columns["key"] = [image_key(chunk, number) for number in range(len(numbers))]
        columns["prompt"] = [f"caption {number} of many" for number in numbers]
        columns["metadata"] = [
            json.dumps({"split": "train" if number % 4 else "test", "subject": f"s{number}"}) for number in numbers
        ]
        columns["custom_id"] = [f"r{number}" for number in numbers]
        sink = io.BytesIO()
        pq.write_table(pa.table(columns, schema=RECORD_SCHEMA), sink)
        folder.store.put(part_path(chunk), sink.getvalue())
