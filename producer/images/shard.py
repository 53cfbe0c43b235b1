"""Images of a shard, read from where they lie in it: one picture of a gigabyte must not cost a gigabyte.

No row says where in its shard an image begins. But rows say how large each image is, and what lies between two of them,
the caption and the JSON, is about alike. So the place of an image is guessed, the tar headers that are found there say
how far off the guess was, and the next guess is better: two or three small reads, in a shard of any size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from threading import Lock

from ddim_core.contracts.record import Record
from ddim_core.storage.objects import ObjectStore
from producer.verify.shard import BLOCK_BYTES, member_offsets, padded, plain_header, read_members

NEAR_BYTES = 256 << 10
"""What lies so near is read on to: another request to a bucket takes as long."""
WINDOW_BYTES = 64 << 10
"""How much around a guess is looked at first; four times as much each time where that holds no header."""
PIECE_BYTES = 4 << 20
_GUESSES = 12
_LEAST_PIECE_BYTES = 16 << 10
_SLACK_BYTES = 4 << 10


class Shard:
    """One shard of a run, whose images are read by their place in the order of the chunk's rows.

    Threads may share it. Its rows are those of all images that were made, in the order of their keys.
    """

    def __init__(self, store: ObjectStore, path: str, rows: Sequence[Record]) -> None:
        """Name a shard; nothing is read yet."""
        self._store, self._path, self._rows = store, path, rows
        self._names = [f"{row.key}.{row.format}" for row in rows]
        self._places = {name: place for place, name in enumerate(self._names)}
        self._before = list(accumulate((BLOCK_BYTES + padded(row.size_bytes or 0) for row in rows), initial=0))
        """Bytes of all images before a place, with their headers."""
        self._lock = Lock()

    def read(self, places: Sequence[int]) -> Iterator[tuple[int, bytes | None]]:
        """Yield the image at each of these ascending places; None where the shard lacks it or it has another hash.

        Raises:
            FileNotFoundError: There is no such shard.
            StorageError: The store failed.
        """
        for stretch in self._stretches(places):
            found = self._read_on(stretch)
            for place in stretch:
                data = found.pop(self._names[place], None)
                if not self._is_it(place, data):
                    data = self._read_again(place)
                yield place, data if self._is_it(place, data) else None

    def _stretches(self, places: Sequence[int]) -> Iterator[list[int]]:
        """Yield places that are near each other."""
        stretch: list[int] = []
        for place in places:
            if stretch and self._before[place] - self._before[stretch[-1] + 1] > NEAR_BYTES:
                yield stretch
                stretch = []
            stretch.append(place)
        if stretch:
            yield stretch

    def _read_on(self, stretch: Sequence[int]) -> dict[str, bytes]:
        start = self._locate(stretch[0])
        if start is None:
            return {}
        first, last = stretch[0] if start else 0, stretch[-1]
        expected = self._before[last + 1] - self._before[first] + self._extra_bytes * (last - first)
        slack = _SLACK_BYTES if last > first else 0
        wanted = {self._names[place]: self._rows[place].size_bytes for place in stretch}
        return dict(read_members(self._pieces(start, start + int(expected) + slack), wanted))

    def _pieces(self, start: int, expected_end: int) -> Iterator[bytes]:
        """Yield the shard's bytes from ``start``, few more than are expected to be wanted at a time."""
        while start < self._size_bytes:
            size_bytes = min(max(expected_end - start, _LEAST_PIECE_BYTES), PIECE_BYTES)
            piece = self._store.get_range(self._path, start, size_bytes)
            if not piece:
                return
            yield piece
            start += len(piece)

    def _locate(self, place: int) -> int | None:
        """Return where the header of an image begins, or what is near before it; None if it is not found."""
        if self._before[place] + self._extra_bytes * place <= NEAR_BYTES:
            return 0
        known = {0: 0, len(self._rows): self._size_bytes}
        window = WINDOW_BYTES
        for _ in range(_GUESSES):
            low = max(each for each in known if each < place)
            high = min(each for each in known if each > place)
            guess = self._guess(place, (low, known[low]), (high, known[high]))
            start = max(known[low], (guess - window // 2) // BLOCK_BYTES * BLOCK_BYTES)
            found = self._headers_in(start, min(start + window, known[high]))
            if place in found:
                return found[place]
            inside = {each: at for each, at in found.items() if low < each < high}
            if not inside and start <= known[low] and start + window >= known[high]:
                return None
            window = WINDOW_BYTES if inside else 4 * window
            known |= inside
        return None

    def _guess(self, place: int, low: tuple[int, int], high: tuple[int, int]) -> int:
        """Return where an image lies if what is between images is alike between two known ones."""
        (first, start), (last, end) = low, high
        images = self._before[last] - self._before[first]
        between = (end - start - images) / (last - first)
        return int(start + self._before[place] - self._before[first] + between * (place - first))

    def _headers_in(self, start: int, end: int) -> dict[int, int]:
        """Return by place where the images' headers in this part of the shard begin."""
        data = self._store.get_range(self._path, start, end - start)
        found = {}
        for at in range(0, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES):
            header = plain_header(data[at : at + BLOCK_BYTES])
            if header and (place := self._places.get(header[0])) is not None:
                found[place] = start + at
        return found

    def _is_it(self, place: int, data: bytes | None) -> bool:
        return data is not None and hashlib.sha256(data).hexdigest() == self._rows[place].sha256

    def _read_again(self, place: int) -> bytes | None:
        """Return an image of a shard that is not as our own are, once all of it was gone through."""
        name, row = self._names[place], self._rows[place]
        with self._lock:  # whoever comes first goes through the shard
            offset = self._offsets.get(name)
        if offset is None:
            return None
        end = offset + BLOCK_BYTES + (row.size_bytes or 0)
        return dict(read_members(self._pieces(offset, end), {name: row.size_bytes})).get(name)

    @cached_property
    def _offsets(self) -> dict[str, int]:
        return member_offsets(self._store.pieces(self._path))

    @cached_property
    def _size_bytes(self) -> int:
        size_bytes = self._store.size_bytes(self._path)
        if size_bytes is None:
            raise FileNotFoundError(f"{self._store.url}/{self._path}")
        return size_bytes

    @cached_property
    def _extra_bytes(self) -> float:
        """What lies behind an image before the next one's header, on the average."""
        return max(0.0, (self._size_bytes - self._before[-1]) / max(1, len(self._rows)))
