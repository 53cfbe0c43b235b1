"""Which rows of a run are made again: those of given keys, or some by chance."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate

from ddim_core.contracts.plan import image_key
from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.errors import InputError
from ddim_core.storage.run_folder import RunFolder

_LOOKED_AT = 100_000
"""Images among which those that were made are looked for, in a run where nearly all failed."""
_KEY = re.compile(r"[0-9]{9,}")


def row_of(folder: RunFolder, key: str) -> Record:
    """Return the row of an image.

    Raises:
        InputError: The run has no image of that key, or has not come to it yet.
        StorageError: The store failed, or the part is damaged.
    """
    if _KEY.fullmatch(key):
        try:
            rows = folder.read_records(int(key[:-4]))
        except FileNotFoundError:
            rows = []
        for row in rows:
            if row.key == key:
                return row
    raise InputError(_why_no_row(folder, key))


def _why_no_row(folder: RunFolder, key: str) -> str:
    plan = folder.read_plan()
    chunk, place = (int(key[:-4]), int(key[-4:])) if _KEY.fullmatch(key) else (plan.chunk_count, 0)
    if chunk < plan.chunk_count and place < plan.images_in(chunk):
        return (
            f"an image must be made before it can be made again, but chunk {chunk} of {folder.url}, which {key} is in, "
            f"is not done; to follow the run: ddim-fleet watch {folder.url}"
        )
    return f"a key must be one of the rows in parts/ of {folder.url}, such as {image_key(0, 0)}, got {key!r}"


def chosen_rows(folder: RunFolder, count: int, seed: int) -> list[Record]:
    """Return ``count`` rows of a finished run's images, or as many as it has, in the order of their keys.

    The same seed chooses the same rows of the same run; only the parts that they are in are read.

    Raises:
        StorageError: The store failed, or a part is damaged.
    """
    plan = folder.read_plan()
    ends = list(accumulate(plan.images_in(chunk) for chunk in range(plan.chunk_count)))
    looked_at = min(ends[-1], max(_LOOKED_AT, count))
    places = random.Random(seed).sample(range(ends[-1]), looked_at)  # noqa: S311 - a sample, no secret
    found: list[Record] = []
    for start in range(0, len(places), count):
        keys = (_key_at(ends, place) for place in places[start : start + count])
        made = [row for row in _rows(folder, keys) if row.status == SUCCESS]
        found += made[: count - len(found)]
        if len(found) == count:
            break
    return sorted(found, key=lambda row: (len(row.key), row.key))


def _key_at(ends: list[int], place: int) -> str:
    chunk = bisect_right(ends, place)
    return image_key(chunk, place - (ends[chunk - 1] if chunk else 0))


def _rows(folder: RunFolder, keys: Iterable[str]) -> Iterator[Record]:
    wanted: dict[int, set[str]] = defaultdict(set)
    for key in keys:
        wanted[int(key[:-4])].add(key)
    for chunk in sorted(wanted):
        yield from (row for row in folder.read_records(chunk) if row.key in wanted[chunk])
