"""A run's folder: what is written comes back, what is damaged is named, and only a part makes a chunk done."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ddim_core.errors import RunExistsError, RunNotFoundError, StorageError
from ddim_core.storage.run_folder import (
    RunFolder,
    chunk_path,
    decode_part,
    encode_chunk,
    encode_part,
    file_entry,
    part_path,
    read_part,
    shard_path,
    stats_path,
)
from producer.runs.failures import failed_images
from tests.unit.storage.runs import SmallRun, small_chunks, small_plan, write_run

RUN = SmallRun(
    prompts=("a red square", "un carré bleu 图", "line\nbreak", "a\u2028separator", "last"), failing=frozenset({"last"})
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A whole run of three chunks with one failed image."""
    return write_run(str(tmp_path / "run"), RUN)


def test_a_whole_run_reads_back_as_it_was_written(folder: RunFolder) -> None:
    """Plan, chunks, rows, totals and manifest, with prompts that hold line breaks and other scripts."""
    again = RunFolder(folder.url)
    assert again.has_plan()
    assert again.read_plan() == small_plan(RUN)
    assert [again.read_chunk(chunk) for chunk in range(3)] == small_chunks(RUN)
    assert [record.prompt for record in again.records()] == list(RUN.prompts)
    assert [record.status for record in again.records()] == ["success"] * 4 + ["failed"]
    assert again.committed_chunks() == {0, 1, 2}
    manifest = again.read_manifest()
    assert manifest is not None
    assert (manifest.images, manifest.failed, manifest.chunks) == (4, 1, 3)


def test_every_file_of_the_manifest_has_the_size_and_digest_it_states(folder: RunFolder) -> None:
    """What ``verify`` relies on."""
    manifest = folder.read_manifest()
    assert manifest is not None
    for entry in manifest.files:
        assert file_entry(entry.path, folder.store.get(entry.path)) == entry


def test_a_part_is_the_same_bytes_each_time(folder: RunFolder) -> None:
    """A chunk that is done twice writes the same objects again."""
    data = folder.store.get(part_path(0))
    assert encode_part(decode_part(data)) == data


def test_a_folder_without_a_plan_is_no_run(tmp_path: Path) -> None:
    """The message names the place, which may be misspelt."""
    folder = RunFolder(str(tmp_path / "empty"))
    assert not folder.has_plan()
    assert folder.read_manifest() is None
    with pytest.raises(RunNotFoundError, match=r"must name a folder with run.json, there is none at file://.*/empty"):
        folder.read_plan()


def test_a_plan_is_written_once(folder: RunFolder) -> None:
    """A second run in the same folder would mix its images with the first."""
    with pytest.raises(RunExistsError, match="must be a folder without a run"):
        folder.write_plan(small_plan(RUN))


def test_only_a_part_makes_a_chunk_done(tmp_path: Path) -> None:
    """Shard and totals come first; a worker that dies before the part has not committed."""
    folder = RunFolder(str(tmp_path))
    for path in (shard_path(0), stats_path(0), "parts/00000.parquet.bak", "parts/0.parquet", "parts/x/00000.parquet"):
        folder.store.put(path, b"x")
    assert folder.committed_chunks() == set()
    assert not folder.is_committed(0)
    folder.store.put(part_path(0), encode_part([]))
    folder.store.put(part_path(123_456), encode_part([]))
    assert folder.committed_chunks() == {0, 123_456}
    assert folder.is_committed(0)


def test_a_missing_chunk_is_named(folder: RunFolder) -> None:
    """A plan without its chunks cannot be finished."""
    folder.store.delete(chunk_path(1))
    with pytest.raises(StorageError, match=r"must hold all its chunks, but .*/chunks/00001.jsonl is missing"):
        folder.read_chunk(1)


@pytest.mark.parametrize("data", [b"", b"{}", b"not json", b"\xff\xfe", b"[]", b'{"version": 2}', b"[" * 100_000])
def test_damaged_files_are_named_with_their_fault(folder: RunFolder, data: bytes) -> None:
    """Truncated, foreign or from another version: one line with the path, never a traceback of the parser."""
    for path in ("run.json", "manifest.json", stats_path(0), part_path(0)):
        folder.store.put(path, data)
    for read, name in (
        (folder.read_plan, "run.json"),
        (folder.read_manifest, "manifest.json"),
        (lambda: folder.read_stats(0), "parts/00000_stats.json"),
        (lambda: folder.read_records(0), "parts/00000.parquet"),
    ):
        with pytest.raises(StorageError, match=rf"/{name} is damaged: "):
            read()


def test_a_damaged_chunk_line_is_named(folder: RunFolder) -> None:
    """A chunk that was cut off in the middle of a line must not run with the rest."""
    data = encode_chunk(small_chunks(RUN)[0])
    folder.write_chunk(0, data[: len(data) - 10])
    with pytest.raises(StorageError, match=r"chunks/00000.jsonl is damaged"):
        folder.read_chunk(0)


def test_rows_of_a_chunk_that_is_not_done_are_not_found(folder: RunFolder) -> None:
    """Not done is not damaged."""
    with pytest.raises(FileNotFoundError, match=r"parts/00099.parquet"):
        folder.read_records(99)


def test_cancelling_is_a_mark_that_can_be_taken_away(folder: RunFolder) -> None:
    """What is committed stays either way."""
    assert not folder.is_cancelled()
    folder.cancel()
    folder.cancel()
    assert folder.is_cancelled()
    folder.uncancel()
    assert not folder.is_cancelled()
    assert folder.committed_chunks() == {0, 1, 2}


def test_paths_are_those_of_the_layout() -> None:
    """They are documented and read by loaders, so they are part of the contract."""
    assert [chunk_path(3), shard_path(3), part_path(3), stats_path(3)] == [
        "chunks/00003.jsonl",
        "shards/00003.tar",
        "parts/00003.parquet",
        "parts/00003_stats.json",
    ]


def _without_seed(table: pa.Table) -> pa.Table:
    return table.drop_columns(["seed"])


def _as_doubles(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("seed")
    return table.set_column(
        at, pa.field("seed", pa.float64(), nullable=False), pc.cast(table["seed"], "double", safe=False)
    )


def _as_dictionary(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("model")
    return table.set_column(
        at, pa.field("model", pa.dictionary("int32", "string"), nullable=False), table["model"].dictionary_encode()
    )


def _with_nulls(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_without_seed, r"columns must be key, custom_id, .*, got key, custom_id, "),
        (_as_doubles, r"column seed must be int64 without nulls, got double without nulls$"),
        (_as_dictionary, r"column model must be string without nulls, got dictionary<.*> without nulls$"),
        (_with_nulls, r"column key must be string without nulls, got string$"),
    ],
)
def test_a_part_of_another_schema_is_refused(
    folder: RunFolder, edit: Callable[[pa.Table], pa.Table], message: str
) -> None:
    """Parts are read together as one table, so each must have the one schema."""
    sink = io.BytesIO()
    pq.write_table(edit(pq.read_table(io.BytesIO(folder.store.get(part_path(0))))), sink)
    folder.store.put(part_path(0), sink.getvalue())
    with pytest.raises(StorageError, match=rf"parts/00000\.parquet is damaged: {message}"):
        folder.read_records(0)


@pytest.mark.parametrize("place", [0, 4, 1000, -40])
def test_a_part_that_is_damaged_anywhere_is_named_in_one_line(folder: RunFolder, place: int) -> None:
    """At some places pyarrow raises an OSError and not one of its own, at some with a message of several lines."""
    data = bytearray(folder.store.get(part_path(0)))
    data[place : place + 20] = b"\xff" * 20
    folder.store.put(part_path(0), bytes(data))
    with pytest.raises(StorageError, match=r"parts/00000\.parquet is damaged: [^\n]+\Z"):
        folder.read_records(0)


def test_a_row_that_the_schema_does_not_allow_is_never_written(folder: RunFolder) -> None:
    """A value of the wrong kind, or none where there must be one."""
    record = folder.read_records(0)[0]
    for name, value in {"seed": 1.5, "height": None, "prompt": 3, "eta": "0", "error_class": 0}.items():
        with pytest.raises(TypeError, match=rf"^{name} must be (string|int64|double).*, got {value!r}$"):
            encode_part([record, replace(record, **{name: value})])  # type: ignore[arg-type]


def test_a_part_from_before_there_were_codes_is_read_with_those_of_its_classes(folder: RunFolder) -> None:
    """Whole, or some columns of it; runs from then can be resumed, listed and reported."""
    rows = folder.read_records(2)
    table = pq.read_table(io.BytesIO(folder.store.get(part_path(2))))
    assert rows[0].error_code == "not_finite"
    sink = io.BytesIO()
    pq.write_table(table.drop_columns(["error_code"]), sink)
    assert decode_part(sink.getvalue()) == rows
    assert read_part(sink.getvalue(), ["error_code", "key"]).to_pylist() == [
        {"error_code": "not_finite", "key": rows[0].key}
    ]
    assert read_part(sink.getvalue(), ["status"]).column_names == ["status"]
    folder.store.put(part_path(2), sink.getvalue())
    assert [image.error_code for image in failed_images(folder)] == ["not_finite"]


@pytest.mark.parametrize("older", [False, True], ids=["this version", "an earlier one"])
def test_a_part_whose_texts_are_damaged_is_no_part(folder: RunFolder, older: bool) -> None:
    """Parquet has no checksum by default; a text that is no UTF-8 must not wait for the one who reads it."""
    table = read_part(folder.store.get(part_path(0)))
    damaged = pa.array([b"\xe5 square"] * table.num_rows, pa.binary()).view(pa.string())
    table = table.set_column(table.schema.get_field_index("prompt"), table.schema.field("prompt"), damaged)
    sink = io.BytesIO()
    pq.write_table(table.drop_columns(["windows"]) if older else table, sink)
    with pytest.raises(pa.ArrowInvalid, match="UTF8"):
        decode_part(sink.getvalue())
