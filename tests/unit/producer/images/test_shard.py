"""Images of a shard are found from rows alone, and little else of the shard is read."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.contracts.plan import image_key
from ddim_core.contracts.record import Record
from ddim_core.storage.objects import ObjectStore
from producer.images import shard as shard_module
from producer.images.shard import NEAR_BYTES, Shard
from producer.verify.shard import BLOCK_BYTES
from tests.unit.storage.runs import SmallRun, write_run

PATH = "shards/00000.tar"


class CountingStore(ObjectStore):
    """A store that counts what is read of it."""

    def __init__(self, url: str) -> None:
        """Open a folder."""
        super().__init__(url)
        self.bytes_read = self.requests = 0

    def get_range(self, path: str, start: int, size_bytes: int) -> bytes:
        """Count one request."""
        data = super().get_range(path, start, size_bytes)
        self.bytes_read += len(data)
        self.requests += 1
        return data

    def pieces(self, path: str) -> Iterator[bytes]:
        """Count all that goes by."""
        for piece in super().pieces(path):
            self.bytes_read += len(piece)
            yield piece


@pytest.fixture
def template(tmp_path: Path) -> Record:
    """A row of an image that was made."""
    return write_run(str(tmp_path / "template"), SmallRun()).read_records(0)[0]


def rows_of(template: Record, images: Sequence[bytes]) -> list[Record]:
    """Return the rows of these images."""
    return [
        replace(
            template,
            key=image_key(0, place),
            path=PATH,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
        )
        for place, data in enumerate(images)
    ]


def tar_of(members: Sequence[tuple[str, bytes]], tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
    """Return a tar of these members."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tar_format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def members_of(rows: Sequence[Record], images: Sequence[bytes], captions: Sequence[int]) -> list[tuple[str, bytes]]:
    """Return what a shard of ours holds, with captions of these lengths."""
    return [
        member
        for row, data, length in zip(rows, images, captions, strict=True)
        for member in ((f"{row.key}.png", data), (f"{row.key}.txt", b"x" * length), (f"{row.key}.json", b"{}"))
    ]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    sizes=st.lists(
        st.tuples(st.integers(0, 40_000), st.one_of(st.integers(0, 300), st.integers(0, 20_000))), max_size=40
    ),
    wanted=st.sets(st.integers(0, 39)),
    seed=st.integers(0, 1000),
)
def test_any_images_are_found_whatever_lies_between_them(
    template_row: Record,
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[tuple[int, int]],
    wanted: set[int],
    seed: int,
) -> None:
    """Of any sizes, with captions of any lengths: each comes as it is, with windows far smaller than the shard."""
    draw = random.Random(seed)
    images = [draw.randbytes(size) for size, _ in sizes]
    rows = rows_of(template_row, images)
    store = CountingStore(str(tmp_path_factory.mktemp("shard")))
    store.put(PATH, tar_of(members_of(rows, images, [length for _, length in sizes])))
    places = sorted(place for place in wanted if place < len(rows))
    with pytest.MonkeyPatch.context() as patch:
        for name, size_bytes in (("NEAR_BYTES", 2048), ("WINDOW_BYTES", 1024), ("PIECE_BYTES", 4096)):
            patch.setattr(shard_module, name, size_bytes)
        found = dict(Shard(store, PATH, rows).read(places))
    assert found == {place: images[place] for place in places}


@pytest.fixture(scope="module")
def template_row(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The same for a property test, which takes no fixture anew for each example."""
    return write_run(str(tmp_path_factory.mktemp("template")), SmallRun()).read_records(0)[0]


def test_one_image_of_a_gigabyte_costs_little_more_than_itself(template: Record, tmp_path: Path) -> None:
    """A thousand images of a megabyte, more or less: at most three requests before it, and 512 KB beside it."""
    draw = random.Random(7)
    sizes = [draw.randrange(600_000, 1_500_000) for _ in range(1000)]
    looked_at = (0, 1, 500, 998, 999)
    digests = {sizes[place]: hashlib.sha256(bytes(sizes[place])).hexdigest() for place in looked_at}
    rows = [
        replace(template, key=image_key(0, place), path=PATH, size_bytes=size, sha256=digests.get(size, ""))
        for place, size in enumerate(sizes)
    ]
    file = tmp_path / PATH
    file.parent.mkdir(parents=True)
    with file.open("wb") as sink:  # zeros that take no room
        for row in rows:
            for name, size in ((f"{row.key}.png", row.size_bytes or 0), (f"{row.key}.txt", draw.randrange(900))):
                header = tarfile.TarInfo(name)
                header.size = size
                sink.write(header.tobuf(tarfile.USTAR_FORMAT))
                sink.seek(size + -size % BLOCK_BYTES, 1)
        sink.truncate(sink.tell() + 2 * BLOCK_BYTES)
    assert file.stat().st_size > 1e9
    for place in looked_at:
        store = CountingStore(str(tmp_path))
        ((_, data),) = Shard(store, PATH, rows).read([place])
        assert data == bytes(sizes[place])
        assert store.bytes_read < sizes[place] + 512 * 1024, place
        assert store.requests <= 4, place


def test_neighbours_are_read_in_one_go(template: Record, tmp_path: Path) -> None:
    """All images of a shard: each of its bytes once, in pieces, not a request an image."""
    images = [bytes([place]) * 50_000 for place in range(40)]
    rows = rows_of(template, images)
    store = CountingStore(str(tmp_path))
    store.put(PATH, tar_of(members_of(rows, images, [10] * 40)))
    assert [data for _, data in Shard(store, PATH, rows).read(range(40))] == images
    assert store.bytes_read <= (store.size_bytes(PATH) or 0) + 64 * 1024
    assert store.requests <= 2
    assert NEAR_BYTES > 50_000


def test_a_shard_that_somebody_packed_anew_is_read_all_the_same(template: Record, tmp_path: Path) -> None:
    """In another order, or with headers of another kind, each image is compared with its row, not with its place."""
    images = [bytes([place]) * 90_000 for place in range(20)]
    rows = rows_of(template, images)
    members = members_of(rows, images, [600] * 20)
    store = CountingStore(str(tmp_path))
    for data in (tar_of(members[::-1]), tar_of([("a" * 150, b"first"), *members], tarfile.PAX_FORMAT)):
        store.put(PATH, data)
        assert dict(Shard(store, PATH, rows).read([0, 11, 19])) == {place: images[place] for place in (0, 11, 19)}


@pytest.mark.parametrize("cut_at", [0, 100, 700, 500_000])
def test_what_is_damaged_or_cut_off_is_none_and_its_neighbours_are_there(
    template: Record, tmp_path: Path, cut_at: int
) -> None:
    """A truncated shard gives what lies before its end; an image with another hash is not given."""
    images = [bytes([place]) * 90_000 for place in range(20)]
    rows = rows_of(template, images)
    whole = tar_of(members_of(rows, images, [600] * 20))
    store = CountingStore(str(tmp_path))
    store.put(PATH, whole[:cut_at])
    found = dict(Shard(store, PATH, rows).read(range(20)))
    assert found == {place: images[place] if cut_at > (place + 1) * 93_000 else None for place in range(20)}
    flipped = bytearray(whole)
    flipped[whole.index(images[12]) + 5] ^= 1
    store.put(PATH, bytes(flipped))
    found = dict(Shard(store, PATH, rows).read([3, 12, 13]))
    assert found == {3: images[3], 12: None, 13: images[13]}


def test_a_header_within_an_image_leads_nowhere(template: Record, tmp_path: Path) -> None:
    """Bytes of an image that look like the header of another one cost time, and bring no other image."""
    header = tarfile.TarInfo(f"{image_key(0, 5)}.png")
    header.size = 90_000
    decoy = header.tobuf(tarfile.USTAR_FORMAT) * 150
    images = [bytes([place]) * 90_000 if place != 6 else decoy for place in range(12)]
    rows = rows_of(template, images)
    store = CountingStore(str(tmp_path))
    store.put(PATH, tar_of(members_of(rows, images, [600] * 12)))
    for place in range(12):
        ((_, data),) = Shard(store, PATH, rows).read([place])
        assert data == images[place]


def test_a_shard_that_is_gone_is_said_to_be(template: Record, tmp_path: Path) -> None:
    """To whoever reads it first."""
    with pytest.raises(FileNotFoundError, match=PATH):
        list(Shard(ObjectStore(str(tmp_path)), PATH, rows_of(template, [b"x"])).read([0]))
