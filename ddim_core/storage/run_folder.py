"""The layout of a run in its store, and how its files are read and written."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from ddim_core.contracts.manifest import ChunkStats, FileEntry, Manifest, ManifestTotals
from ddim_core.contracts.plan import PlannedRequest, RunPlan
from ddim_core.contracts.record import ADDED_LATER, RECORD_SCHEMA, Record, column_of, record_from_row
from ddim_core.errors import RunExistsError, RunNotFoundError, StorageError, code_of_class
from ddim_core.storage.changes import with_later_changes
from ddim_core.storage.documents import Model, damaged, encode_document, read_document
from ddim_core.storage.manifest_file import encode_manifest, totals_in
from ddim_core.storage.objects import ObjectStore

PLAN = "run.json"
CLAIM = "claim.json"
MANIFEST = "manifest.json"
REPORT = "report.html"
REPORT_FOLDER = "report"
"""What the report's page loads from beside it; like the page, it is no part of the dataset."""
CANCELLED = "cancelled"
PAUSED = "paused"
Totals = TypeVar("Totals", bound=ManifestTotals)

_VALUES: dict[pa.DataType, tuple[type, ...]] = {pa.string(): (str,), pa.int64(): (int,), pa.float64(): (float, int)}
_CODE, _CLASS = "error_code", "error_class"
_DEFAULTS = {field.name: field.default for field in fields(Record) if field.name in ADDED_LATER}
_PART = re.compile(r"^parts/(\d{5,})\.parquet$")


def chunk_path(chunk: int) -> str:
    """Return where the requests of a chunk are."""
    return f"chunks/{chunk:05d}.jsonl"


def shard_path(chunk: int) -> str:
    """Return where a chunk's WebDataset shard goes."""
    return f"shards/{chunk:05d}.tar"


def part_path(chunk: int) -> str:
    """Return where a chunk's manifest part goes: its existence means that the chunk is done."""
    return f"parts/{chunk:05d}.parquet"


def latents_path(key: str) -> str:
    """Return where the x_T of an inverted picture goes; no loader looks there."""
    return f"latents/{key[:-4]}/{key}.npy"


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
    """Return a Parquet file with one row a record, in ``RECORD_SCHEMA``.

    Raises:
        TypeError: A record holds a value that its column cannot.
    """
    columns = [_column(field, column_of(records, field.name)) for field in RECORD_SCHEMA]
    table = pa.Table.from_arrays(columns, schema=RECORD_SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _column(field: pa.Field[Any], values: Sequence[object]) -> pa.Array[Any]:
    """Return the values as Arrow holds them; its own conversion would cut 1.5 to 1 for a column of integers."""
    allowed = _VALUES[field.type]
    for value in values:
        if not (value is None and field.nullable) and not isinstance(value, allowed):
            raise TypeError(f"{field.name} must be {_kind(field)}, got {value!r:.80}")
    column: pa.Array[Any] = pa.array(values, field.type)
    return column


def decode_part(data: bytes) -> list[Record]:
    """Return the records of a manifest part.

    Raises:
        ArrowException: The bytes are no Parquet file with the columns of ``RECORD_SCHEMA``.
    """
    return [record_from_row(row) for row in read_part(data).to_pylist()]


def read_part(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """Return a manifest part as a table, or only some of its columns.

    Raises:
        ArrowException: The bytes are no Parquet file with the columns of ``RECORD_SCHEMA``, or those that it had in an
            earlier version; what such rows lack is filled in.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        lacking = ADDED_LATER - set(file.schema_arrow.names)
        _check_schema(file.schema_arrow, lacking)
        if lacking:
            return _read_older(file, columns or RECORD_SCHEMA.names, lacking)
        table = file.read(columns, use_threads=False)  # threads take longer to start than a part to read
        table.validate(full=True)  # of damaged texts, too, which otherwise fail where somebody reads them
        return table
    except OSError as exc:  # pyarrow's word for some damages, though the bytes are in memory
        raise pa.ArrowInvalid(" ".join(str(exc).split())) from exc


def _read_older(file: pq.ParquetFile, columns: list[str], lacking: Collection[str]) -> pa.Table:
    """Return the columns of a part that lacks some; those rows have the defaults, and of failures the class's code."""
    there = {*columns, _CLASS} - set(lacking)
    table = file.read([name for name in file.schema_arrow.names if name in there], use_threads=False)
    table.validate(full=True)
    for name in lacking:
        values = [_DEFAULTS[name]] * table.num_rows
        if name == _CODE:
            classes = table.column(_CLASS).to_pylist()
            values = [None if each is None else code_of_class(each) for each in classes]
        field = RECORD_SCHEMA.field(name)
        table = table.append_column(field, pa.array(values, field.type))
    return table.select(columns)


def _check_schema(schema: pa.Schema, lacking: Collection[str]) -> None:
    wanted = [field for field in RECORD_SCHEMA if field.name not in lacking]
    if schema.equals(pa.schema(wanted)):
        return
    if schema.names != [field.name for field in wanted]:
        raise pa.ArrowInvalid(f"columns must be {', '.join(RECORD_SCHEMA.names)}, got {', '.join(schema.names)}")
    found, field = next((a, b) for a, b in zip(schema, wanted, strict=True) if not a.equals(b))
    raise pa.ArrowInvalid(f"column {field.name} must be {_kind(field)}, got {_kind(found)}")


def _kind(field: pa.Field[Any]) -> str:
    return f"{field.type}{'' if field.nullable else ' without nulls'}"


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
        self.store.put_new(CLAIM, encode_document(plan))
        return self.read_claim() or plan

    def read_claim(self) -> RunPlan | None:
        """Return the plan of the run that the folder was taken for, or None if it is free."""
        return self._read_if_there(CLAIM, RunPlan)

    def write_plan(self, plan: RunPlan) -> None:
        """Write ``run.json``, which makes the folder a run.

        Raises:
            RunExistsError: There is one already.
        """
        if not self.store.put_new(PLAN, encode_document(plan)):
            raise RunExistsError(f"the output must be a folder without a run, but {self.url} holds one; choose another")

    def remove_plan(self) -> None:
        """Take ``run.json`` away, so that the folder is no run."""
        self.store.delete(PLAN)

    def has_plan(self) -> bool:
        """Return whether the folder is a run."""
        return self.store.exists(PLAN)

    def read_plan(self, known: RunPlan | None = None) -> RunPlan:
        """Return the run's plan with all changes; with one ``known``, only later changes are read.

        Raises:
            RunNotFoundError: The folder is no run.
            StorageError: ``run.json`` or a change is damaged.
        """
        try:
            written = self._read(PLAN, RunPlan)
        except FileNotFoundError as exc:
            raise RunNotFoundError(f"a run's URL must name a folder with {PLAN}, there is none at {self.url}") from exc
        plan = known if known is not None and known.run_id == written.run_id else written
        return with_later_changes(self.store, plan)

    def cancel(self) -> None:
        """Mark the run as one that no worker shall go on with; what is committed stays."""
        self.store.put(CANCELLED, b"")

    def uncancel(self) -> None:
        """Take the mark away, so that the run can be resumed."""
        self.store.delete(CANCELLED)

    def is_cancelled(self) -> bool:
        """Return whether the run was cancelled."""
        return self.store.exists(CANCELLED)

    def pause(self) -> None:
        """Mark the run as one that workers shall leave alone for a while."""
        self.store.put(PAUSED, b"")

    def unpause(self) -> None:
        """Take that mark away; workers that know the run go on with it by themselves."""
        self.store.delete(PAUSED)

    def is_paused(self) -> bool:
        """Return whether the run was paused."""
        return self.store.exists(PAUSED)

    def halted(self) -> Literal["cancelled", "paused"] | None:
        """Return which mark keeps workers from the run, if one does."""
        if self.is_cancelled():
            return "cancelled"
        return "paused" if self.is_paused() else None

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
            raise damaged(self.store, path, exc) from exc

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
        self.store.put(MANIFEST, encode_manifest(manifest))

    def remove_manifest(self) -> None:
        """Take the manifest away before a file that it lists is replaced."""
        self.store.delete(MANIFEST)

    def read_manifest(self) -> Manifest | None:
        """Return the manifest, or None while the run is not whole: also where it is one from before a change."""
        return self._if_current(self._read_if_there(MANIFEST, Manifest))

    def read_totals(self, plan: RunPlan | None = None) -> ManifestTotals | None:
        """Return the manifest without its files, for who asks often; the run's ``plan`` is read if it is not given."""
        try:
            totals = totals_in(next(self.store.pieces(MANIFEST), b""))
        except FileNotFoundError:
            return None
        except ValidationError as exc:
            raise damaged(self.store, MANIFEST, exc) from exc
        return self.read_manifest() if totals is None else self._if_current(totals, plan)

    def _if_current(self, totals: Totals | None, plan: RunPlan | None = None) -> Totals | None:
        if totals is None or totals.generation != (plan or self.read_plan()).generation:
            return None
        return totals

    def _read_if_there(self, path: str, model: type[Model]) -> Model | None:
        try:
            return self._read(path, model)
        except FileNotFoundError:
            return None

    def _read(self, path: str, model: type[Model]) -> Model:
        return read_document(self.store, path, model)
