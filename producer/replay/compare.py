"""An image made again beside the run's own: whether its bytes are the same, and if not, what differs and why it may."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.storage.run_folder import RunFolder
from producer.verify.shard import read_member
from producer.words import counted

_CONDITIONS = ("device_kind", "slots", "decode_batch", "dtype", "cpu_threads")
"""With the versions, what equal bytes hold for."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A row, and what came of making its image again."""

    row: Record
    again: Record
    levels: int | None = None
    """By how much a pixel differs at most, of 255; None where the bytes are the same or cannot be compared."""

    @property
    def same_bytes(self) -> bool:
        """Whether the new file is the old one, by its hash; of an inversion, the latents too."""
        new, old = ((record.sha256, record.latents_sha256) for record in (self.again, self.row))
        return self.again.sha256 is not None and new == old

    @property
    def is_fault(self) -> bool:
        """Whether the image should be the same and is not, or cannot be made."""
        if self.again.status != SUCCESS:
            return True
        return self.row.status == SUCCESS and not self.same_bytes and not self.differing

    @property
    def differing(self) -> dict[str, tuple[object, object]]:
        """What bytes may depend on and differs: in the row, and here."""
        pairs = {name: (getattr(self.row, name), getattr(self.again, name)) for name in _CONDITIONS}
        there, here = json.loads(self.row.versions), json.loads(self.again.versions)
        pairs |= {name: (there.get(name), here.get(name)) for name in sorted(there.keys() | here.keys())}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def facts(self) -> dict[str, object]:
        """Return what programs read of it."""
        return {
            "key": self.row.key,
            "fault": self.is_fault,
            "outcome": self.outcome,
            "same_bytes": self.same_bytes,
            "levels": self.levels,
            "differing": {name: {"row": there, "here": here} for name, (there, here) in self.differing.items()},
        }

    def __str__(self) -> str:
        return f"{self.row.key}: {self.outcome}"

    @property
    def outcome(self) -> str:
        """What came of it, in words."""
        if self.again.status != SUCCESS:
            return f"could not be made again: {self.again.error_class}: {self.again.error_message}"
        if self.row.status != SUCCESS:
            return f"made; its row says {self.row.error_class}: {self.row.error_message}"
        if self.same_bytes:
            return "same bytes"
        if self.levels is None:
            return "bytes differ, and there is no image in the run to compare pixels with"
        if self.levels == 0:
            return "bytes differ, pixels are the same"
        return f"bytes differ, pixels by at most {self.levels} of 255 levels"


def lines_of(results: Sequence[Replayed]) -> Iterator[str]:
    """Yield what a person reads: a line for each image, and one for each thing that is not as it is in the rows."""
    yield from map(str, results)
    differing = Counter((name, *pair) for result in results for name, pair in result.differing.items())
    for (name, there, here), count in differing.items():
        yield f"{name} is {_shown(here)} here, and {_shown(there)} in {counted(count, 'row')}"


def compared(folder: RunFolder, row: Record, again: Record) -> Replayed:
    """Compare a new image with its row, and with the run's own image where the hashes differ.

    Raises:
        StorageError: The store failed.
    """
    replayed = Replayed(row, again)
    if replayed.same_bytes or row.status != SUCCESS or again.path is None:
        return replayed
    ours, theirs = _pixels(read_image(folder, row)), _pixels(Path(again.path).read_bytes())
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return replayed
    return Replayed(row, again, int(np.abs(ours - theirs).max()))


def _shown(value: object) -> str:
    return "unknown" if value is None else str(value)


def read_image(folder: RunFolder, row: Record) -> bytes | None:
    """Return the run's own image, or None if it is gone."""
    assert row.path is not None  # rows of images that were made have one
    try:
        if row.path.endswith(".tar"):
            return read_member(folder.store.pieces(row.path), f"{row.key}.{row.format}")
        return folder.store.get(row.path)
    except FileNotFoundError:
        return None


def _pixels(data: bytes | None) -> npt.NDArray[np.int16] | None:
    """Return an image's pixels, wide enough to be subtracted, or None if it is none."""
    try:
        with Image.open(io.BytesIO(data or b"")) as image:
            return np.asarray(image.convert("RGB"), np.int16)
    except OSError:  # Pillow's word for what it cannot read
        return None
