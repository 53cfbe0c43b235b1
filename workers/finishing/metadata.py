"""``images/metadata.parquet``: the captions of an image folder, where Hugging Face's loader looks for them."""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ddim_core.contracts.manifest import FileEntry
from ddim_core.contracts.record import RECORD_SCHEMA, SUCCESS, caption_of
from ddim_core.storage.run_folder import RunFolder, file_entry

METADATA = "images/metadata.parquet"
ROWS_IN_MEMORY = 10_000
"""Rows of one group of the file; fixed, so that whoever finishes a run writes the same bytes."""

_AS_IN_THE_PARTS = (
    "key",
    "custom_id",
    "prompt",
    "negative_prompt",
    "negative_prompt_used",
    "prompt_tokens",
    "negative_prompt_tokens",
    "long_prompts",
    "windows",
    "class_label",
    "kind",
    "frame",
    "frames",
    "seed",
    "to_seed",
    "fraction",
    "num_inference_steps",
    "steps_taken",
    "guidance_scale",
    "guidance_rescale",
    "eta",
    "height",
    "width",
    "scheduler",
    "metadata",
    "source",
    "reconstruction_error",
)
# The loader finds a row's image by ``file_name``, relative to the table; ``text`` is what captions are called, and what
# the model saw of the prompt.
_SCHEMA = pa.schema(
    [
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        *(RECORD_SCHEMA.field(name) for name in _AS_IN_THE_PARTS),
    ]
)


class MetadataTable:
    """Takes a run's rows in the order of their keys, and becomes the file."""

    columns = ("status", "path", "prompt_used", *_AS_IN_THE_PARTS)

    def __init__(self) -> None:
        """Begin an empty table."""
        self._sink = io.BytesIO()
        self._writer = pq.ParquetWriter(self._sink, _SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._has_rows = False

    def add(self, row: Any) -> None:
        """Take in one more row, which has these columns; of a failed one there is nothing to say."""
        if row.status != SUCCESS:
            return
        name = PurePosixPath(str(row.path)).relative_to("images").as_posix()
        columns = {column: getattr(row, column) for column in _AS_IN_THE_PARTS}
        self._rows.append({"file_name": name, "text": caption_of(row), **columns})
        if len(self._rows) == ROWS_IN_MEMORY:
            self._flush()

    def write(self, folder: RunFolder) -> list[FileEntry]:
        """Write the file, unless there is no image, and return its entry; nothing can be added after that."""
        if self._rows:
            self._flush()
        self._writer.close()
        if not self._has_rows:
            return []
        data = self._sink.getvalue()
        folder.store.put(METADATA, data)
        return [file_entry(METADATA, data)]

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=_SCHEMA))
        self._rows = []
        self._has_rows = True
