"""What a finished run tells of one that is still to be made: how fast a device was, and how large images became."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ddim_core.contracts.image_encoding import ImageEncoding
from ddim_core.contracts.record import SUCCESS
from ddim_core.errors import InputError, RunUnfinishedError, StorageError
from ddim_core.storage.reading import read_ahead
from ddim_core.storage.run_folder import RunFolder, part_path, read_part
from producer.requests.workload import evaluations_per_step

CHUNKS_READ = 200
"""Spread evenly over the run: images of one run are alike enough."""

_COLUMNS = [
    "status",
    "kind",
    "num_inference_steps",
    "steps_taken",
    "guidance_scale",
    "height",
    "width",
    "size_bytes",
    "worker",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Rates of a run as it was made, idle times and all."""

    run_url: str
    encoding: ImageEncoding
    bytes_per_pixel: float
    """Of an encoded image."""
    work_per_device_s: float
    """``Workload.pixel_evaluations`` that one device did in a second."""


def measured(folder: RunFolder) -> Measured:
    """Return the rates of a finished run.

    Raises:
        RunNotFoundError: There is no run.
        RunUnfinishedError: It has no manifest yet.
        InputError: It made no image.
        StorageError: The store failed, or a part is damaged or of another version.
    """
    plan = folder.read_plan()
    totals = folder.read_totals(plan)
    if totals is None:
        raise RunUnfinishedError(f"a speed must be taken from a run that is finished, {folder.url} is not")
    chunks = range(0, plan.chunk_count, -(-plan.chunk_count // CHUNKS_READ))
    rows = [row for part in read_ahead(lambda chunk: _rows(folder, chunk), chunks) for row in part]
    if not rows or not totals.seconds:
        raise InputError(f"a speed must be taken from a run that made images, {folder.url} made none")
    devices = {_device(row) for row in rows}
    work = totals.images * sum(map(_work, rows)) / len(rows)
    return Measured(
        run_url=folder.url,
        encoding=plan.encoding,
        bytes_per_pixel=sum(row["size_bytes"] for row in rows) / sum(row["height"] * row["width"] for row in rows),
        work_per_device_s=work / totals.seconds / len(devices),
    )


def _rows(folder: RunFolder, chunk: int) -> Iterable[Mapping[str, Any]]:
    data = folder.store.get(part_path(chunk))
    try:
        rows = read_part(data, _COLUMNS).to_pylist()
    except pa.ArrowException as exc:
        raise StorageError(f"{folder.url}/{part_path(chunk)} is damaged: {exc}") from exc
    return [row for row in rows if row["status"] == SUCCESS]


def _work(row: Mapping[str, Any]) -> int:
    steps = row["steps_taken"] or row["num_inference_steps"] * (2 if row["kind"] == "invert" else 1)
    evaluations = steps * evaluations_per_step(row["guidance_scale"])
    return int(evaluations * row["height"] * row["width"])


def _device(row: Mapping[str, Any]) -> str:
    """Return host and device of a worker: the process, which comes last, may have been started again."""
    return str(row["worker"]).rpartition("/")[0]
