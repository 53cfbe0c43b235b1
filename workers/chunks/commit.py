"""Writing a chunk: shard or images, then the totals, then the part, whose existence means that the chunk is done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ddim_core.contracts.manifest import ChunkStats, FileEntry
from ddim_core.contracts.moment import now
from ddim_core.contracts.record import SUCCESS, is_cut
from ddim_core.storage.commits import Commits
from ddim_core.storage.image_names import image_path
from ddim_core.storage.run_folder import (
    RunFolder,
    encode_part,
    file_entry,
    latents_path,
    part_path,
    shard_path,
    stats_path,
)
from workers.chunks.encode import ShardSample, encode_shard
from workers.chunks.records import Made, RecordMaker


@dataclass(frozen=True, slots=True)
class Clock:
    """When an attempt at a chunk began."""

    started_at: str = field(default_factory=now)
    began: float = field(default_factory=time.monotonic)


def commit_chunk(
    commits: Commits, chunk: int, rows: Sequence[Made], maker: RecordMaker, clock: Clock
) -> ChunkStats | None:
    """Write all files of a chunk and return its totals; None if another worker was faster, whose files are left.

    Safe to repeat and to interrupt anywhere: names and shard bytes follow from the plan, and the part comes last.

    Raises:
        StorageError: The store failed; the chunk is not committed.
    """
    samples = [ShardSample(row.record, row.image) for row in rows if row.image is not None]
    tells = maker.plan.tells_of_texts
    shard = encode_shard(samples, tells_of_texts=tells) if samples else None  # readers stumble over empty shards
    folder = commits.folder
    if commits.has(chunk):  # as late as can be: the other worker's shard may lack an image that this one has
        return None
    if chunk in commits.ordered:
        folder.remove_manifest()  # it lists what is replaced now
    files = [*_write_shard(folder, chunk, shard), *_image_entries(rows)]
    _delete_left_over(folder, chunk, rows, maker)
    part = encode_part([row.record for row in rows])
    made = [row.record for row in rows if row.record.status == SUCCESS]
    stats = ChunkStats(
        chunk=chunk,
        images=len(made),
        failed=len(rows) - len(made),
        cut=sum(map(is_cut, made)),
        attempts=maker.attempts,
        seconds=round(time.monotonic() - clock.began, 3),
        started_at=clock.started_at,
        finished_at=now(),
        worker=maker.worker,
        device=maker.facts.device,
        files=(*files, file_entry(part_path(chunk), part)),
    )
    folder.store.put(stats_path(chunk), stats.model_dump_json().encode())
    folder.store.put(part_path(chunk), part)
    commits.settle(chunk)
    return stats


def _write_shard(folder: RunFolder, chunk: int, shard: bytes | None) -> list[FileEntry]:
    if shard is None:
        return []
    folder.store.put(shard_path(chunk), shard)
    return [file_entry(shard_path(chunk), shard)]


def _delete_left_over(folder: RunFolder, chunk: int, rows: Sequence[Made], maker: RecordMaker) -> None:
    """Delete what an earlier attempt wrote of images that now are failed rows: readers take whatever lies there."""
    failed = [row.record for row in rows if row.record.status != SUCCESS]
    for record in failed:
        if record.kind == "invert":
            folder.store.delete(latents_path(record.key))
    if maker.plan.container != "webdataset":
        for record in failed:
            folder.store.delete(image_path(maker.plan, record.key, record.custom_id, record.image))
    elif len(failed) == len(rows):
        folder.store.delete(shard_path(chunk))


def _image_entries(rows: Sequence[Made]) -> list[FileEntry]:
    entries = []
    for row in rows:
        record = row.record
        if record.status == SUCCESS and row.image is None:
            entries.append(_entry(record.path, record.size_bytes, record.sha256))
        if record.latents is not None:
            entries.append(_entry(record.latents, record.latents_size_bytes, record.latents_sha256))
    return entries


def _entry(path: str | None, size_bytes: int | None, sha256: str | None) -> FileEntry:
    assert path is not None and size_bytes is not None and sha256 is not None
    return FileEntry(path=path, size_bytes=size_bytes, sha256=sha256)
