"""The images of a finished run, wherever it keeps them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

from PIL import Image

from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.storage.run_folder import RunFolder


def run_images(run_url: str) -> Iterator[tuple[Record, Image.Image]]:
    """Yield the row and the RGB image of everything that was made, in the order of keys."""
    folder = RunFolder(run_url)
    for record in folder.records():
        if record.status == SUCCESS:
            yield record, Image.open(io.BytesIO(_bytes_of(folder, record))).convert("RGB")


def _bytes_of(folder: RunFolder, record: Record) -> bytes:
    assert record.path is not None  # rows of images that were made have one
    data = folder.store.get(record.path)
    if not record.path.endswith(".tar"):
        return data
    with tarfile.open(fileobj=io.BytesIO(data)) as shard:
        member = shard.extractfile(f"{record.key}.{record.format}")
        assert member is not None
        return member.read()
