"""The audit finds each kind of fault that is planted by hand in a run that was whole."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tools.chaos.audit import audit

IMAGES = 4
WANTED = {(f"r{number}", 0): f"a leaf {number}" for number in range(IMAGES)}
Row = dict[str, Any]


def image(number: int) -> bytes:
    return f"the picture of {number}".encode() * 9


def row(number: int, **changes: object) -> Row:
    chunk = number // 2
    return {
        "key": f"{chunk:05d}{number % 2:04d}",
        "custom_id": f"r{number}",
        "image": 0,
        "status": "success",
        "prompt": f"a leaf {number}",
        "path": f"shards/{chunk:05d}.tar",
        "sha256": hashlib.sha256(image(number)).hexdigest(),
        **changes,
    }


def write_run(folder: Path, rows: Mapping[int, list[Row]] | None = None) -> Path:
    """Write a run of two chunks with two images each; ``rows`` replaces those of some chunks."""
    chunks = {0: [row(0), row(1)], 1: [row(2), row(3)], **(rows or {})}
    for name in ("shards", "parts"):
        (folder / name).mkdir(parents=True)
    for chunk, listed in chunks.items():
        write_shard(folder / f"shards/{chunk:05d}.tar", {f"{chunk:05d}{n:04d}": image(2 * chunk + n) for n in range(2)})
        pq.write_table(pa.Table.from_pylist(listed), folder / f"parts/{chunk:05d}.parquet")
        (folder / f"parts/{chunk:05d}_stats.json").write_text(json.dumps({"images": len(listed), "failed": 0}))
    write_manifest(folder, images=sum(map(len, chunks.values())))
    return folder


def write_shard(path: Path, images: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, data in images.items():
            for suffix, content in (("png", data), ("txt", b"a leaf"), ("json", b"{}")):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write_manifest(folder: Path, *, images: int = IMAGES) -> None:
    files = sorted([*folder.glob("shards/*.tar"), *folder.glob("parts/*.parquet")])
    entries = [
        {
            "path": path.relative_to(folder).as_posix(),
            "size_bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]
    (folder / "manifest.json").write_text(json.dumps({"images": images, "failed": 0, "chunks": 2, "files": entries}))


def kinds(folder: Path, calm: Path | None = None) -> set[str]:
    return {fault.kind for fault in audit(folder, WANTED, calm=calm)}


def test_a_run_that_is_whole_has_no_faults(tmp_path: Path) -> None:
    """Otherwise every finding below could be the audit's own mistake."""
    calm = write_run(tmp_path / "calm")
    assert audit(write_run(tmp_path / "run"), WANTED, calm=calm) == []


def test_a_lost_row_is_found(tmp_path: Path) -> None:
    """Even where the manifest counts without it, because the requests are known."""
    faults = audit(write_run(tmp_path, {1: [row(2)]}), WANTED)
    assert [str(fault) for fault in faults] == ["lost row: r3/0", "unknown image: shards/00001.tar#000010001"]


def test_a_duplicate_row_is_found(tmp_path: Path) -> None:
    """By its request and by its key."""
    faults = audit(write_run(tmp_path, {1: [row(2), row(3), row(3)]}), WANTED)
    assert [str(fault) for fault in faults] == ["duplicate row: 000010001 (its key)", "duplicate row: r3/0"]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"picture")] ^= 1
    path.write_bytes(bytes(data))


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("name", "harm", "kind"),
    [
        ("shards/00000.tar", _flip, "changed byte"),
        ("shards/00000.tar", Path.unlink, "missing file"),
        ("parts/00000.parquet", Path.unlink, "missing file"),
        ("parts/00000_stats.json", Path.unlink, "missing file"),
        ("manifest.json", Path.unlink, "missing file"),
        ("manifest.json", _halve, "missing file"),
        ("shards/00000.tar", _halve, "half-written object"),
        ("parts/00000.parquet", _halve, "half-written object"),
    ],
)
def test_a_file_that_is_harmed_is_found(tmp_path: Path, name: str, harm: Callable[[Path], None], kind: str) -> None:
    """Each file of the run, cut short, changed in one bit, or gone."""
    harm(write_run(tmp_path) / name)
    assert kind in kinds(tmp_path)


@pytest.mark.parametrize(
    ("harm", "kind"), [(_halve, "half-written object"), (_flip, "changed byte"), (Path.unlink, "lost image")]
)
def test_a_shard_that_was_harmed_before_the_manifest_is_found(
    tmp_path: Path, harm: Callable[[Path], None], kind: str
) -> None:
    """A manifest that lists what was half-written or wrong from the start agrees with it, and rows do not."""
    harm(write_run(tmp_path) / "shards/00001.tar")
    write_manifest(tmp_path)
    assert kind in kinds(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "parts/00001_stats.json"])
def test_a_wrong_count_is_found(tmp_path: Path, name: str) -> None:
    """In the manifest, and in a chunk's totals."""
    path = write_run(tmp_path) / name
    path.write_text(json.dumps({**json.loads(path.read_text()), "images": 3}))
    assert kinds(tmp_path) == {"wrong count"}


def test_a_row_with_other_bytes_than_in_the_undisturbed_run_is_found(tmp_path: Path) -> None:
    """The row agrees with its image and the manifest with both; only the comparison shows it."""
    calm = write_run(tmp_path / "calm")
    broken = write_run(tmp_path / "run", {1: [row(2), row(3, sha256=hashlib.sha256(b"another").hexdigest())]})
    write_shard(broken / "shards/00001.tar", {"000010000": image(2), "000010001": b"another"})
    write_manifest(broken)
    assert kinds(broken) == set()
    assert [str(fault) for fault in audit(broken, WANTED, calm=calm)] == ["differs from the undisturbed run: r3/0"]


def test_a_row_of_another_prompt_and_a_file_that_nobody_lists_are_found(tmp_path: Path) -> None:
    """An image under the wrong caption is as bad as none, and readers take whatever lies in the folder."""
    write_run(tmp_path, {1: [row(2), row(3, prompt="a stone")]})
    write_shard(tmp_path / "shards/00002.tar", {"000020000": image(0)})
    assert kinds(tmp_path) == {"wrong prompt", "unlisted file", "unknown image"}


def test_an_image_that_is_twice_in_its_shard_is_found(tmp_path: Path) -> None:
    """Tar allows two members of one name, and readers differ in which they take."""
    path = write_run(tmp_path) / "shards/00000.tar"
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo("000000000.png")
        member.size = len(image(0))
        tar.addfile(member, io.BytesIO(image(0)))
    write_manifest(tmp_path)
    assert kinds(tmp_path) == {"duplicate image"}
