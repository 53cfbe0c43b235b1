"""The images of a run as data URIs of bounded size, read a shard at a time and an image in memory at a time."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from PIL import Image

from ddim_core.contracts.record import Record
from ddim_core.storage.objects import ObjectStore

if TYPE_CHECKING:
    from typing_extensions import Buffer

SIDE_PX = 192
"""Longest side of a thumbnail, and what small images are enlarged to, each pixel a square."""
SMALL_SIDE_PX = 96
ORIGINAL_LIMIT_BYTES = 16_000
"""What a 64 by 64 image without any order takes; larger files become thumbnails."""
_WEBP_QUALITY = 75
_THREADS = max(4, os.cpu_count() or 1)
_WINDOW = 2 * _THREADS
"""Images read and not yet taken over; memory holds no more of a shard than these."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the page shows it."""

    source: str
    """A data URI."""
    width_px: int
    height_px: int
    enlarged: bool


Found = tuple[str, "Picture | str"]
"""An image's key, and its picture or in words why there is none."""


class PictureReader:
    """Makes the pictures of a run, with all cores."""

    def __init__(self, store: ObjectStore) -> None:
        """Read from this run's store."""
        self._store = store
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="report")

    def __enter__(self) -> PictureReader:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop its threads."""
        self._pool.shutdown(cancel_futures=True)

    def read(self, made: Sequence[Record]) -> dict[str, Picture | str]:
        """Return by key the picture of each row of a chunk, or in words why there is none.

        Raises:
            StorageError: The store failed.
        """
        pictures: dict[str, Picture | str] = {record.key: f"missing in {record.path}" for record in made}
        shards: dict[str, dict[str, Record]] = {}
        files: list[Record] = []
        for record in made:
            assert record.path is not None  # rows of images that were made have one
            if record.path.endswith(".tar"):
                shards.setdefault(record.path, {})[f"{record.key}.{record.format}"] = record
            else:
                files.append(record)
        pictures.update(self._at_once(partial(self._file, record) for record in files))
        for path, wanted in shards.items():
            pictures.update(self._at_once(self._members(path, wanted)))
        return pictures

    def _file(self, record: Record) -> Found:
        assert record.path is not None
        try:
            return _checked(record, self._store.get(record.path))
        except FileNotFoundError:
            return record.key, f"missing in {record.path}"

    def _members(self, path: str, wanted: Mapping[str, Record]) -> Iterator[Callable[[], Found]]:
        """Yield what makes the picture of each image of a shard, as far as the shard can be read."""
        try:
            with tarfile.open(fileobj=io.BufferedReader(_Stream(self._store.pieces(path))), mode="r|") as tar:
                for member in tar:
                    record = wanted.get(member.name)
                    file = tar.extractfile(member) if record else None
                    if record and file:
                        yield partial(_checked, record, file.read())
        except (FileNotFoundError, tarfile.TarError):
            return

    def _at_once(self, tasks: Iterable[Callable[[], Found]]) -> Iterator[Found]:
        """Yield what the tasks come to, in their order, with a few of them under way."""
        begun: deque[Future[Found]] = deque()
        for task in tasks:
            begun.append(self._pool.submit(task))
            if len(begun) >= _WINDOW:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def picture(data: bytes) -> Picture:
    """Return an image as it is where it is small, and a thumbnail of it otherwise."""
    with Image.open(io.BytesIO(data)) as image:
        image_format = image.format or ""
        longest = max(image.size)
        scale = SIDE_PX // longest if longest <= SMALL_SIDE_PX else 1
        if longest <= SIDE_PX and len(data) <= ORIGINAL_LIMIT_BYTES:
            image.load()  # what cannot be decoded is said to be none
            source = _data_uri(data, Image.MIME[image_format])
        else:
            image.thumbnail((SIDE_PX, SIDE_PX), reducing_gap=2.0)
            sink = io.BytesIO()
            image.convert("RGB").save(sink, "WEBP", quality=_WEBP_QUALITY)
            source = _data_uri(sink.getvalue(), Image.MIME["WEBP"])
        return Picture(source, image.width * scale, image.height * scale, scale > 1)


def _checked(record: Record, data: bytes) -> Found:
    if hashlib.sha256(data).hexdigest() != record.sha256:
        return record.key, f"damaged in {record.path}"
    try:
        return record.key, picture(data)
    except (OSError, SyntaxError, ValueError):  # Pillow's words for what it cannot read
        return record.key, f"no {record.format} image in {record.path}"


def _data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


class _Stream(io.RawIOBase):
    """Pieces of an object as the file that ``tarfile`` reads from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fill the buffer as far as a piece goes; return how far, 0 at the end of all."""
        room = memoryview(buffer)
        self._left = self._left or memoryview(next(self._pieces, b""))
        count = min(len(room), len(self._left))
        room[:count], self._left = self._left[:count], self._left[count:]
        return count
