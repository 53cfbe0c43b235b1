"""The failed images of a run: which there are, and the order to make them again."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

import pyarrow as pa
import pyarrow.parquet as pq

from ddim_core.contracts.changes import RetryList, RetryOrder
from ddim_core.contracts.plan import RunPlan
from ddim_core.contracts.record import FAILED, RECORD_SCHEMA, SUCCESS
from ddim_core.errors import StorageError
from ddim_core.storage.changes import add_change, write_retry_list
from ddim_core.storage.commits import Commits
from ddim_core.storage.reading import read_ahead
from ddim_core.storage.run_folder import RunFolder, part_path, read_part
from producer.broker import Broker
from producer.runs.control import resume

_COLUMNS = ["key", "custom_id", "image", "status", "error_code", "error_class", "error_message", "attempts"]
_STATUS = RECORD_SCHEMA.get_field_index("status")


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that could not be made."""

    key: str
    custom_id: str
    image: int
    """Which image of its request, from 0."""
    error_code: str
    """The kind of failure, in a word for programs."""
    error_class: str
    error_message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class FailedPart:
    """The failed images of a chunk, if it has any."""

    chunk: int
    sha256: str
    """Of the chunk's part."""
    images: list[FailedImage]


def failed_images(folder: RunFolder) -> Iterator[FailedImage]:
    """Yield the failed images of the chunks that are done, in the order of their keys, a few chunks in memory.

    Raises:
        RunNotFoundError: The folder holds no run.
        StorageError: The store failed, or a part is damaged.
    """
    folder.read_plan()
    for part in _failed_parts(folder):
        yield from part.images


def retry_failed(folder: RunFolder, broker: Broker) -> int:
    """Order all failed images of a run to be made again, and queue what is missing of it; return how many failed.

    What is good stays as it is. Killed anywhere, this leaves the run as it was, or ordered; it may be called again.

    Raises:
        RunNotFoundError: The folder holds no run.
        BrokerError: Redis does not answer. If it failed on the way, the order stands, and ``resume`` queues it.
    """
    plan = folder.read_plan()
    broker.ping()
    failed = {part.chunk: part for part in _failed_parts(folder)}
    if failed:
        _order(folder, plan, failed)
        folder.remove_manifest()  # it holds no longer: for us since the order, for others from now on
    resume(folder, broker)
    return sum(len(part.images) for part in failed.values())


def _order(folder: RunFolder, plan: RunPlan, failed: dict[int, FailedPart]) -> None:
    """Write the list, then the order that names it, unless the run stands under such an order already."""
    parts = {chunk: part.sha256 for chunk, part in failed.items()}
    if Commits.of(folder, plan).ordered.items() >= parts.items():
        return
    images = sum(len(part.images) for part in failed.values())
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    order = RetryOrder(created_at=now, name=secrets.token_hex(8), images=images, chunks=len(parts))
    write_retry_list(folder.store, order, RetryList(parts=parts))
    while add_change(folder.store, plan, order) is None:  # somebody else changed the run, which does not matter here
        plan = folder.read_plan(plan)


def _failed_parts(folder: RunFolder) -> Iterator[FailedPart]:
    parts = read_ahead(lambda chunk: _read(folder, chunk), sorted(folder.committed_chunks()))
    return (part for part in parts if part.images)


def _read(folder: RunFolder, chunk: int) -> FailedPart:
    path = part_path(chunk)
    data = folder.store.get(path)
    try:
        rows = [] if _is_all_made(data) else read_part(data, _COLUMNS).to_pylist()
    except (pa.ArrowException, OSError) as exc:  # pyarrow raises both; the bytes are in memory
        raise StorageError(f"{folder.url}/{path} is damaged: {' '.join(str(exc).split())}") from exc
    failed = [row for row in rows if row.pop("status") == FAILED]
    return FailedPart(chunk, hashlib.sha256(data).hexdigest(), [FailedImage(**row) for row in failed])


def _is_all_made(data: bytes) -> bool:
    """Return whether the part's own statistics rule out failed rows: a tenth of the work of reading them."""
    metadata = pq.read_metadata(io.BytesIO(data))
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(_STATUS).statistics
        if statistics is None or not statistics.has_min_max or {statistics.min, statistics.max} != {SUCCESS}:
            return False
    return True
