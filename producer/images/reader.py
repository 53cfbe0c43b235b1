"""A run to be read: its rows, its images and its report; it needs a store, and no Redis."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from ddim_core.contracts.record import Record
from ddim_core.errors import InputError, StorageError
from ddim_core.storage.reading import at_once
from ddim_core.storage.run_folder import RunFolder
from producer.images.extract import Extraction, extract, rows_ahead
from producer.images.naming import By, chosen, chunk_of
from producer.images.reading import ChunkImages, Found, batches, rows_of
from producer.images.target import Wish
from producer.report import write_report
from producer.words import shown

_READERS = 4
"""Each has a batch of images in memory, while the one before them is looked at."""
_KEYS_SHOWN = 3


class RunReader:
    """What a run's store has to show, as far as the run is."""

    def __init__(self, folder: RunFolder) -> None:
        """Read the run of this folder."""
        self._folder = folder

    @property
    def url(self) -> str:
        """The run's folder."""
        return self._folder.url

    def records(self) -> Iterator[Record]:
        """Yield the rows of the chunks that are done, in the order of their keys; failed images are among them."""
        return self._folder.records()

    def image(self, name: str, *, by: By | None = None) -> Image.Image:
        """Return an image, by its key or by the ``custom_id`` of a request that has one image.

        Of a shard only the image is read, compared with the sha256 of its row, and decoded.

        Args:
            name: A key comes before an equal ``custom_id``.
            by: Which of the two it is, where requests have names that look like keys.

        Raises:
            InputError: The run has no such image, has not made it yet, or has several of this name.
            StorageError: The store failed, or the image is gone or damaged.
        """
        keys = chosen(self._folder, [name], by).keys
        if len(keys) > 1:
            some = ", ".join(keys[:_KEYS_SHOWN])
            raise InputError(f"a name must be that of one image, got {name!r} with {len(keys)}; name one: {some}, ...")
        images = ChunkImages(self._folder.store, rows_of(self._folder, chunk_of(keys[0])))
        (found,) = images.read([row for row in images.made if row.key == keys[0]])
        return self._decoded(found)

    def images(self) -> Iterator[tuple[Record, Image.Image]]:
        """Yield row and image of all that was made so far, in the order of keys; the next few are on their way.

        Memory holds a few batches of 8 MB, however large the run.

        Raises:
            StorageError: The store failed, or an image is gone or damaged.
        """
        plan, chunks = self._folder.read_plan(), sorted(self._folder.committed_chunks())
        tasks = (
            partial(_read, images, batch)
            for images in (ChunkImages(self._folder.store, rows) for rows in rows_ahead(self._folder, plan, chunks))
            for batch in batches(images.made)
        )
        for batch in at_once(tasks, _READERS, _READERS):
            for found in batch:
                yield found.record, self._decoded(found)

    def download(
        self,
        folder: str | Path,
        names: Sequence[str] = (),
        *,
        by: By | None = None,
        captions: bool = False,
        rows: bool = False,
        replace: bool = False,
    ) -> Extraction:
        """Write the images that were made so far into a folder, as ``ddim-fleet extract`` does; what is there stays.

        Args:
            folder: Where the files go, named after their requests, or after their keys where these have no name.
            names: Keys, or ``custom_id``s of requests; without any, all images.
            by: Which of the two names are, where both could be meant.
            captions: Write each image's caption beside it, as ``.txt``.
            rows: Write each image's row beside it, as ``.json``.
            replace: Write over files that have an image's name and hold something else.

        Raises:
            InputError: A name names no image that was made. Nothing is written then.
            OutputError: The folder cannot be written to.
            StorageError: The store failed, or images are gone, damaged, or have another file in their way; all others
                are written.
        """
        wish = Wish(names, by, captions, rows, replace)
        extraction = extract(self._folder, folder, wish)
        if extraction.faults:
            raise StorageError(
                f"all images must be in {extraction.folder}, got {extraction.fault_count} that are not: "
                + "; ".join(extraction.faults)
            )
        return extraction

    def report(self, out: str | Path | None = None) -> str:
        """Write the report into the run's folder, or into ``out``; return the page's path, or its URL in a bucket.

        Raises:
            OutputError: ``out`` cannot be written to.
            StorageError: The store failed, or a file of the run is damaged.
        """
        return shown(write_report(self.url, out=None if out is None else str(out)))

    def _decoded(self, found: Found) -> Image.Image:
        if found.data is None:
            raise StorageError(f"{found.fault} in {self.url}; to see all that is wrong: ddim-fleet verify {self.url}")
        try:
            image = Image.open(io.BytesIO(found.data))
            image.load()
        except (OSError, SyntaxError, ValueError) as exc:
            raise StorageError(f"image {found.record.key} of {self.url} must be one, got: {exc}") from exc
        return image


def _read(images: ChunkImages, batch: Sequence[Record]) -> list[Found]:
    return list(images.read(batch))
