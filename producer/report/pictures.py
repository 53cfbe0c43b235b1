"""The images of a run as data URIs, small enough to stand in a page."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
from dataclasses import dataclass

from PIL import Image

from ddim_core.contracts.record import Record
from ddim_core.storage.run_folder import RunFolder

THUMBNAIL_PX = 384
SMALL_SIDE_PX = 128
"""Images up to this side are shown enlarged, each pixel a square."""
SHOWN_SIDE_PX = 192
ORIGINAL_LIMIT_BYTES = 150_000
_JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as the page shows it."""

    source: str
    """A data URI."""
    width_px: int
    height_px: int
    enlarged: bool


class PictureReader:
    """Reads images out of shards and folders, one shard in memory at a time; ask in the order of keys."""

    def __init__(self, folder: RunFolder) -> None:
        """Read from this run."""
        self._folder = folder
        self._path = ""
        self._members: dict[str, bytes] = {}

    def read(self, record: Record) -> Picture | str:
        """Return the picture of a row, or in words why there is none."""
        try:
            data = self._data(record)
        except (FileNotFoundError, tarfile.TarError):
            data = None
        if data is None:
            return f"missing in {record.path}"
        if hashlib.sha256(data).hexdigest() != record.sha256:
            return f"damaged in {record.path}"
        try:
            return picture(data, record.format)
        except OSError:  # Pillow's word for what it cannot read
            return f"no {record.format} image in {record.path}"

    def _data(self, record: Record) -> bytes | None:
        assert record.path is not None  # rows of images that were made have one
        if not record.path.endswith(".tar"):
            return self._folder.store.get(record.path)
        if record.path != self._path:
            self._path, self._members = record.path, {}
            self._members = _images_of(self._folder.store.get(record.path), f".{record.format}")
        return self._members.get(record.key)


def picture(data: bytes, image_format: str) -> Picture:
    """Return an image as it is where it is small, and a thumbnail of it otherwise."""
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        longest = max(width, height)
        if longest <= THUMBNAIL_PX and len(data) <= ORIGINAL_LIMIT_BYTES:
            scale = max(1, SHOWN_SIDE_PX // longest) if longest <= SMALL_SIDE_PX else 1
            return Picture(_data_uri(data, image_format), width * scale, height * scale, scale > 1)
        image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
        sink = io.BytesIO()
        image.convert("RGB").save(sink, "JPEG", quality=_JPEG_QUALITY)
        return Picture(_data_uri(sink.getvalue(), "jpeg"), image.width, image.height, enlarged=False)


def _images_of(shard: bytes, suffix: str) -> dict[str, bytes]:
    """Return the images of a shard by key."""
    images = {}
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(suffix) else None
            if file is not None:
                images[member.name.removesuffix(suffix)] = file.read()
    return images


def _data_uri(data: bytes, image_format: str) -> str:
    return f"data:image/{image_format};base64,{base64.b64encode(data).decode()}"
