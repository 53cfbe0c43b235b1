"""What is kept of a chunk whose failed images are made again: the rows and the images that are good already."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ddim_core.contracts.plan import ChunkItem, image_key
from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.storage.image_names import IMAGE_PATH
from ddim_core.storage.run_folder import RunFolder, shard_path
from workers.chunks.records import Made


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows of a chunk by key; none of them changes."""

    rows: Mapping[str, Made] = field(default_factory=dict)
    attempts: int = 0
    """How often the other images were tried before."""

    @property
    def is_retry(self) -> bool:
        """Whether the chunk was done once, and its failed images are to be made again."""
        return self.attempts > 0

    def missing(self, items: Sequence[ChunkItem]) -> list[ChunkItem]:
        """Return the items that are still to be made."""
        return [item for item in items if item.key not in self.rows]

    def with_made(self, made: Sequence[Made]) -> list[Made]:
        """Return all rows of the chunk in the order of their keys."""
        rows = {**self.rows, **{row.record.key: row for row in made}}
        return [rows[key] for key in sorted(rows)]


def read_kept(folder: RunFolder, chunk: int) -> Kept:
    """Return what is good of a chunk; nothing, if it has no part yet.

    A row counts if it has the key and the place that it must have, and its image is there as it says. An attempt that
    was interrupted may have replaced the shard already, which then holds these images, too.

    Raises:
        StorageError: The store failed, or the part is damaged.
    """
    try:
        records = folder.read_records(chunk)
    except FileNotFoundError:
        return Kept()
    attempts = max((record.attempts for record in records if record.status != SUCCESS), default=0)
    shard = shard_path(chunk)
    made = [
        record
        for position, record in enumerate(records)
        if record.status == SUCCESS and record.key == image_key(chunk, position) and _is_ours(record.path, shard)
    ]
    in_shard = _members(folder, shard) if any(record.path == shard for record in made) else {}
    rows = [_row(folder, record, in_shard if record.path == shard else None) for record in made]
    return Kept({row.record.key: row for row in rows if row is not None}, attempts)


def _is_ours(path: str | None, shard: str) -> bool:
    return path is not None and (path == shard or IMAGE_PATH.fullmatch(path) is not None)


def _row(folder: RunFolder, record: Record, in_shard: Mapping[str, bytes] | None) -> Made | None:
    if in_shard is None:
        assert record.path is not None
        return Made(record, None) if folder.store.size_bytes(record.path) == record.size_bytes else None
    image = in_shard.get(f"{record.key}.{record.format}", b"")
    return Made(record, image) if hashlib.sha256(image).hexdigest() == record.sha256 else None


def _members(folder: RunFolder, path: str) -> dict[str, bytes]:
    """Return the files in a shard; of one that is missing or cut short, what can be read."""
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(folder.store.get(path))) as tar:
            for member in tar:
                content = tar.extractfile(member)
                members[member.name] = content.read() if content else b""
    except (FileNotFoundError, tarfile.TarError, OSError):
        return members
    return members
