"""The images of a finished run, wherever it keeps them."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from ddim_core.contracts.record import Record
from ddim_core.storage.run_folder import RunFolder
from producer.images.reader import RunReader


def run_images(run_url: str) -> Iterator[tuple[Record, Image.Image]]:
    """Yield the row and the RGB image of everything that was made, in the order of keys."""
    for record, image in RunReader(RunFolder(run_url)).images():
        yield record, image.convert("RGB")
