"""One chunk of a finished run: that its rows, its images and the manifest say the same."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from ddim_core.contracts.manifest import FileEntry
from ddim_core.contracts.plan import RunPlan, image_key
from ddim_core.contracts.record import SUCCESS
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import part_path, read_part, shard_path
from producer.verify.faults import NOTHING, Digest, RunFault, compare, missing
from producer.verify.shard import ShardContents, read_shard

_ENDINGS_BESIDE_THE_IMAGE = (".txt", ".json")


class Row(NamedTuple):
    """What a check needs of a row: reading all of it would take longer than hashing its image."""

    key: str
    status: str
    path: str | None
    size_bytes: int | None
    sha256: str | None
    latents: str | None
    latents_sha256: str | None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check came to."""

    faults: list[RunFault]
    images: int = 0
    """Rows of images that were made."""


@dataclass(frozen=True, slots=True)
class ChunkCheck:
    """Compares a chunk's part with the manifest, and its rows with the images; calling it reads the store."""

    store: ObjectStore
    plan: RunPlan
    chunk: int
    listed: Mapping[str, FileEntry]
    """The manifest's files by path."""

    def __call__(self) -> Checked:
        """Return the chunk's faults.

        Raises:
            StorageError: The store failed.
        """
        faults: list[RunFault] = []
        rows = self._rows(faults)
        made = {row.key: row for row in rows if row.status == SUCCESS}
        faults.extend(self._faults_of_rows(rows))
        for row in made.values():
            if row.latents is not None:
                faults.extend(self._faults_of_file(row.key, row.latents, row.latents_sha256))
        if self.plan.container == "webdataset":
            faults.extend(self._faults_of_shard(made, part_was_read=bool(rows)))
        else:
            faults.extend(self._faults_of_images(made.values()))
        return Checked(faults, len(made))

    def _rows(self, faults: list[RunFault]) -> list[Row]:
        path = part_path(self.chunk)
        entry = self.listed.get(path)
        if entry is None:
            faults.append(RunFault("manifest.json", None, f"must list {path}", NOTHING))
        try:
            data = self.store.get(path)
        except FileNotFoundError:
            faults.append(missing(path))
            return []
        if entry is not None:
            faults.extend(compare(entry, Digest(len(data), hashlib.sha256(data).hexdigest())))
        try:
            columns = read_part(data, list(Row._fields)).to_pydict()
        except (pa.ArrowException, OSError) as exc:
            faults.append(RunFault(path, None, "must be a Parquet file of a run's rows", str(exc).splitlines()[0]))
            return []
        return [Row(*values) for values in zip(*(columns[name] for name in Row._fields), strict=True)]

    def _faults_of_rows(self, rows: list[Row]) -> Iterator[RunFault]:
        """Yield what is wrong with the keys. Each names its chunk, so that no key can be in two chunks unseen."""
        path = part_path(self.chunk)
        if not rows:
            return
        counts = Counter(row.key for row in rows)
        expected = {image_key(self.chunk, position) for position in range(self.plan.images_in(self.chunk))}
        for key in sorted(counts.keys() | expected):
            wanted = int(key in expected)
            if counts[key] != wanted:
                yield RunFault(
                    path, key, f"must be in {'one row' if wanted else 'no row of this chunk'}", _rows(counts[key])
                )

    def _faults_of_shard(self, made: Mapping[str, Row], *, part_was_read: bool) -> Iterator[RunFault]:
        path = shard_path(self.chunk)
        entry = self.listed.get(path)
        if made and entry is None:
            yield RunFault("manifest.json", None, f"must list {path}", NOTHING)
        if entry is None:
            return
        try:
            contents = read_shard(self.store.pieces(path), f".{self.plan.image_format}")
        except FileNotFoundError:
            yield missing(path)
            return
        yield from compare(entry, contents.whole)
        if contents.broken:
            yield RunFault(path, None, "must be a whole tar file", contents.broken)
        if part_was_read:
            yield from self._faults_of_members(path, contents, made)

    def _faults_of_images(self, made: Iterable[Row]) -> Iterator[RunFault]:
        """Yield rows that differ from the manifest; the files are compared with the manifest elsewhere."""
        for row in made:
            yield from self._faults_of_file(row.key, row.path or "", row.sha256)

    def _faults_of_file(self, key: str, path: str, sha256: str | None) -> Iterator[RunFault]:
        entry = self.listed.get(path)
        if entry is None:
            yield RunFault("manifest.json", key, f"must be listed as {path}", NOTHING)
        elif entry.sha256 != sha256:
            yield RunFault(part_path(self.chunk), key, f"must have sha256 {entry.sha256}", str(sha256))

    def _faults_of_members(self, path: str, contents: ShardContents, made: Mapping[str, Row]) -> Iterator[RunFault]:
        image, *others = f".{self.plan.image_format}", *_ENDINGS_BESIDE_THE_IMAGE
        for name in contents.repeated:
            yield RunFault(path, name, "must be in it once", "it again")
        for key, row in made.items():
            found = contents.members.get(key + image)
            if found != row.sha256:
                rule = "must be in it" if found is None else f"must have sha256 {row.sha256}, as its row says"
                yield RunFault(path, key + image, rule, found or NOTHING)
            for ending in others if found else ():
                if key + ending not in contents.members:
                    yield RunFault(path, key + ending, "must be in it", NOTHING)
        wanted = {key + ending for key in made for ending in (image, *others)}
        for name in contents.members.keys() - wanted:
            yield RunFault(path, name, "must belong to a row of an image that was made", "none")


def _rows(count: int) -> str:
    return f"{count} rows" if count else "none"
