"""The layout of a run in its store, and how its files are read and written."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from ddim_core.contracts.manifest import ChunkStats, FileEntry, Manifest
from ddim_core.contracts.plan import PlannedRequest, RunPlan
from ddim_core.contracts.record import RECORD_SCHEMA, Record, record_from_row
from ddim_core.errors import RunExistsError, RunNotFoundError, StorageError
from ddim_core.storage.objects import ObjectStore

PLAN = "run.json"
CLAIM = "claim.json"
MANIFEST = "manifest.json"
REPORT = "report.html"
REPORT_FOLDER = "report"
"""What the report's page loads from beside it; like the page, it is no part of the dataset."""
CANCELLED = "cancelled"
Model = TypeVar("Model", bound=BaseModel)

_PART = re.compile(r"^parts/(\d{5,})\.parquet$")


def chunk_path(chunk: int) -> str:
    """Return where the requests of a chunk are."""
    return f"chunks/{chunk:05d}.jsonl"


def shard_path(chunk: int) -> str:
    """Return where a chunk's WebDataset shard goes."""
    return f"shards/{chunk:05d}.tar"


def image_path(key: str, suffix: str) -> str:
    """Return where an image goes that is a file of its own; ``suffix`` is the file name's, without the dot."""
    return f"images/{key}.{suffix}"


def part_path(chunk: int) -> str:
    """Return where a chunk's manifest part goes: its existence means that the chunk is done."""
    return f"parts/{chunk:05d}.parquet"


def stats_path(chunk: int) -> str:
    """Return where a chunk's totals go."""
    return f"parts/{chunk:05d}_stats.json"


def file_entry(path: str, data: bytes) -> FileEntry:
    """Return the manifest's entry for an object of these bytes."""
    return FileEntry(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def encode_chunk(lines: Iterable[PlannedRequest]) -> bytes:
    """Return the chunk file of these requests: one JSON object a line."""
    return b"".join(line.model_dump_json(exclude_defaults=True).encode() + b"\n" for line in lines)


def encode_part(records: Sequence[Record]) -> bytes:
    """Return a Parquet file with one row a record, in ``RECORD_SCHEMA``."""
    table = pa.Table.from_pylist([asdict(record) for record in records], schema=RECORD_SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def decode_part(data: bytes) -> list[Record]:
    """Return the records of a manifest part."""
    return [record_from_row(row) for row in pq.read_table(io.BytesIO(data)).to_pylist()]


class RunFolder:
    """A run in its store: typed reading and writing of every file that belongs to it."""

    def __init__(self, url: str) -> None:
        """Open the folder of a run, whether or not there is one yet."""
        self.store = ObjectStore(url)
        self.url = self.store.url

    def claim(self, plan: RunPlan) -> RunPlan:
        """Take the folder for a run before its first chunk is written; return the plan of whoever has it now.

        It stays when the run is written: a second producer may have looked for ``run.json`` before that.
        """
        self.store.put_new(CLAIM, _as_json(plan))
        return self.read_claim() or plan

    def read_claim(self) -> RunPlan | None:
        """Return the plan of the run that the folder was taken for, or None if it is free."""
        try:
            return self._read(CLAIM, RunPlan)
        except FileNotFoundError:
            return None

    def write_plan(self, plan: RunPlan) -> None:
        """Write ``run.json``, which makes the folder a run.

        Raises:
            RunExistsError: There is one already.
        """
        if not self.store.put_new(PLAN, _as_json(plan)):
            raise RunExistsError(f"the output must be a folder without a run, but {self.url} holds one; choose another")

    def remove_plan(self) -> None:
        """Take ``run.json`` away, so that the folder is no run."""
        self.store.delete(PLAN)

    def has_plan(self) -> bool:
        """Return whether the folder is a run."""
        return self.store.exists(PLAN)

    def read_plan(self) -> RunPlan:
        """Return the run's plan.

        Raises:
            RunNotFoundError: The folder is no run.
            StorageError: ``run.json`` is damaged.
        """
        try:
            return self._read(PLAN, RunPlan)
        except FileNotFoundError as exc:
            raise RunNotFoundError(f"a run's URL must name a folder with {PLAN}, there is none at {self.url}") from exc

    def cancel(self) -> None:
        """Mark the run as one that no worker shall go on with; what is committed stays."""
        self.store.put(CANCELLED, b"")

    def uncancel(self) -> None:
        """Take the mark away, so that the run can be resumed."""
        self.store.delete(CANCELLED)

    def is_cancelled(self) -> bool:
        """Return whether the run was cancelled."""
        return self.store.exists(CANCELLED)

    def write_chunk(self, chunk: int, data: bytes) -> None:
        """Write a chunk file made by ``encode_chunk``."""
        self.store.put(chunk_path(chunk), data)

    def read_chunk(self, chunk: int) -> list[PlannedRequest]:
        """Return the requests of a chunk."""
        path = chunk_path(chunk)
        try:
            return [PlannedRequest.model_validate_json(line) for line in self.store.get(path).splitlines()]
        except FileNotFoundError as exc:
            raise StorageError(f"a run must hold all its chunks, but {exc} is missing") from exc
        except ValidationError as exc:
            raise StorageError(f"{self.url}/{path} is damaged: {_first_fault(exc)}") from exc

    def committed_chunks(self) -> set[int]:
        """Return the chunks that are done: those with a manifest part."""
        return set(self.part_sizes())

    def part_sizes(self) -> dict[int, int]:
        """Return the chunks that are done, with the size of their manifest part in bytes."""
        return {int(match[1]): size for path, size in self.store.list("parts") if (match := _PART.match(path))}

    def is_committed(self, chunk: int) -> bool:
        """Return whether a chunk is done."""
        return self.store.exists(part_path(chunk))

    def read_records(self, chunk: int) -> list[Record]:
        """Return the rows of a chunk that is done.

        Raises:
            FileNotFoundError: The chunk is not done.
            StorageError: Its part is damaged.
        """
        path = part_path(chunk)
        data = self.store.get(path)
        try:
            return decode_part(data)
        except (pa.ArrowException, TypeError) as exc:
            raise StorageError(f"{self.url}/{path} is damaged: {exc}") from exc

    def records(self) -> Iterator[Record]:
        """Yield the rows of all chunks that are done, in the order of their keys, a chunk in memory at a time."""
        for chunk in sorted(self.committed_chunks()):
            yield from self.read_records(chunk)

    def read_stats(self, chunk: int) -> ChunkStats:
        """Return the totals of a chunk that is done."""
        return self._read(stats_path(chunk), ChunkStats)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write ``manifest.json``: the run is whole."""
        self.store.put(MANIFEST, manifest.model_dump_json(indent=1).encode() + b"\n")

    def read_manifest(self) -> Manifest | None:
        """Return the manifest, or None while the run is not whole."""
        try:
            return self._read(MANIFEST, Manifest)
        except FileNotFoundError:
            return None

    def _read(self, path: str, model: type[Model]) -> Model:
        data = self.store.get(path)
        try:
            return model.model_validate(json.loads(data))
        except (ValidationError, ValueError) as exc:
            raise StorageError(f"{self.url}/{path} is damaged: {_first_fault(exc)}") from exc


def _as_json(plan: RunPlan) -> bytes:
    return plan.model_dump_json(indent=2).encode() + b"\n"


def _first_fault(exc: Exception) -> str:
    if isinstance(exc, ValidationError):
        fault = exc.errors()[0]
        return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
    return str(exc)
