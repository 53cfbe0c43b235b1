"""What is wrong with a finished run, found by code that knows the program's file formats and nothing else of it.

It imports none of the program's packages on purpose: a fault in how the program reads its own files must not hide one
in how it writes them.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Wanted = Mapping[tuple[str, int], str]
"""The prompt of each image that was asked for, by the request's custom_id and the image's number in it."""

_END_OF_TAR = bytes(1024)


@dataclass(frozen=True, order=True, slots=True)
class Fault:
    """One thing that is wrong, and where."""

    kind: str
    where: str
    what: str = ""

    def __str__(self) -> str:
        """Return it as a line."""
        return f"{self.kind}: {self.where}{f' ({self.what})' if self.what else ''}"


@dataclass(slots=True)
class _Seen:
    """What the files hold, gathered while faults are named."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    images: dict[str, str] = field(default_factory=dict)
    """sha256 of each image, by ``path`` of its file, a hash sign and its key."""


def audit(folder: Path, wanted: Wanted, *, calm: Path | None = None) -> list[Fault]:
    """Return every fault of the run in ``folder``, sorted; with ``calm``, also where it differs from that run."""
    seen = _Seen()
    faults = [*_read_parts(folder, seen), *_read_shards(folder, seen)]
    faults += _check_manifest(folder, seen.rows)
    faults += _check_stats(folder)
    faults += _check_rows(seen.rows, wanted)
    faults += _check_images(folder, seen)
    if calm is not None:
        faults += _compare(seen.rows, rows_of(calm))
    return sorted(faults)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all parts that can be read."""
    seen = _Seen()
    list(_read_parts(folder, seen))
    return seen.rows


def _read_parts(folder: Path, seen: _Seen) -> Iterator[Fault]:
    for path in sorted(folder.glob("parts/*.parquet")):
        try:
            seen.rows += pq.read_table(path, partitioning=None).to_pylist()
        except (pa.ArrowException, OSError) as exc:
            yield Fault("half-written object", _name(folder, path), str(exc).splitlines()[0])


def _read_shards(folder: Path, seen: _Seen) -> Iterator[Fault]:
    for path in sorted(folder.glob("shards/*.tar")):
        name = _name(folder, path)
        data = path.read_bytes()
        if len(data) % 512 or not data.endswith(_END_OF_TAR):  # tar readers take one without its end
            yield Fault("half-written object", name, "the tar has no end")
            continue
        try:
            members = _members(path)
        except tarfile.TarError as exc:
            yield Fault("half-written object", name, str(exc))
            continue
        for member, count in Counter(member for member, _ in members).items():
            if count > 1:
                yield Fault("duplicate image", f"{name}#{member}")
        for member, digest in members:
            key, _, suffix = member.partition(".")
            if suffix not in ("txt", "json"):
                seen.images[f"{name}#{key}"] = digest


def _members(path: Path) -> list[tuple[str, str]]:
    members = []
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None  # a shard holds plain files
            members.append((member.name, hashlib.sha256(content.read()).hexdigest()))
    return members


def _check_manifest(folder: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    manifest = _json(folder / "manifest.json")
    if manifest is None:
        yield Fault("missing file", "manifest.json", "or it is not JSON")
        return
    listed = {entry["path"]: entry for entry in manifest["files"]}
    for path, entry in listed.items():
        yield from _check_file(folder, path, entry)
    for found in (*folder.glob("parts/*.parquet"), *folder.glob("shards/*.tar")):
        if _name(folder, found) not in listed:
            yield Fault("unlisted file", _name(folder, found))
    chunks = sum(path.startswith("parts/") for path in listed)
    counted = {**_counts(rows), "chunks": len(list(folder.glob("parts/*.parquet")))}
    yield from _check_counts("manifest.json", manifest, counted)
    if len(manifest["files"]) != len(listed) or chunks != manifest["chunks"]:
        yield Fault("wrong count", "manifest.json", f"{len(manifest['files'])} files, {chunks} parts")


def _check_file(folder: Path, path: str, entry: Mapping[str, Any]) -> Iterator[Fault]:
    file = folder / path
    if not file.is_file():
        yield Fault("missing file", path)
    elif file.stat().st_size != entry["size_bytes"]:
        yield Fault("half-written object", path, f"{file.stat().st_size} bytes of {entry['size_bytes']}")
    elif hashlib.sha256(file.read_bytes()).hexdigest() != entry["sha256"]:
        yield Fault("changed byte", path)


def _check_stats(folder: Path) -> Iterator[Fault]:
    """Compare each chunk's totals with its rows; a part without totals lacks a file."""
    for path in sorted(folder.glob("parts/*.parquet")):
        totals = _json(path.with_name(f"{path.stem}_stats.json"))
        if totals is None:
            yield Fault("missing file", f"parts/{path.stem}_stats.json", "or it is not JSON")
            continue
        one = _Seen()
        list(_read_one(path, one))
        yield from _check_counts(f"parts/{path.stem}_stats.json", totals, _counts(one.rows))


def _read_one(path: Path, seen: _Seen) -> Iterator[Fault]:
    try:
        seen.rows += pq.read_table(path, columns=["status"], partitioning=None).to_pylist()
    except (pa.ArrowException, OSError):
        yield Fault("half-written object", path.name)


def _check_counts(where: str, said: Mapping[str, Any], counted: Mapping[str, int]) -> Iterator[Fault]:
    for name, count in counted.items():
        if said.get(name) != count:
            yield Fault("wrong count", where, f"{name} must be {count}, got {said.get(name)}")


def _check_rows(rows: Sequence[Mapping[str, Any]], wanted: Wanted) -> Iterator[Fault]:
    found = Counter((row["custom_id"], row["image"]) for row in rows)
    keys = Counter(row["key"] for row in rows)
    yield from (Fault("lost row", _which(image)) for image in wanted if image not in found)
    yield from (Fault("unknown row", _which(image)) for image in found if image not in wanted)
    yield from (Fault("duplicate row", _which(image)) for image, count in found.items() if count > 1)
    yield from (Fault("duplicate row", key, "its key") for key, count in keys.items() if count > 1)
    for row in rows:
        image = (row["custom_id"], row["image"])
        if image in wanted and row["prompt"] != wanted[image]:
            yield Fault("wrong prompt", _which(image), row["prompt"])


def _check_images(folder: Path, seen: _Seen) -> Iterator[Fault]:
    """Compare each row with the bytes of its image, and find images without a row."""
    rowless = dict(seen.images)
    for row in seen.rows:
        if row["status"] != "success":
            continue
        place = f"{row['path']}#{row['key']}"
        rowless.pop(place, None)
        digest = seen.images.get(place) if row["path"].endswith(".tar") else _digest(folder / row["path"])
        if digest is None:
            yield Fault("lost image", place)
        elif digest != row["sha256"]:
            yield Fault("changed byte", place)
    yield from (Fault("unknown image", place) for place in rowless)


def _compare(rows: Sequence[Mapping[str, Any]], calm: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    expected = {(row["custom_id"], row["image"]): row for row in calm}
    for row in rows:
        other = expected.get((row["custom_id"], row["image"]))
        if other is not None and (row["status"], row["sha256"]) != (other["status"], other["sha256"]):
            yield Fault("differs from the undisturbed run", _which((row["custom_id"], row["image"])))


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    made = sum(row["status"] == "success" for row in rows)
    return {"images": made, "failed": len(rows) - made}


def _json(path: Path) -> dict[str, Any] | None:
    try:
        loaded = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return loaded if isinstance(loaded, dict) else None


def _digest(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _which(image: tuple[str, int]) -> str:
    return f"{image[0]}/{image[1]}"


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
