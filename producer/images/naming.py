"""Which images people mean by a name: a key, as in file names and rows, or the ``custom_id`` of a request."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, TypeAlias

import pyarrow as pa

from ddim_core.contracts.plan import image_key
from ddim_core.contracts.record import SUCCESS
from ddim_core.errors import InputError, StorageError
from ddim_core.storage.reading import read_ahead
from ddim_core.storage.run_folder import RunFolder, part_path, read_part
from producer.requests.messages import got
from producer.requests.values import plain_value

By: TypeAlias = Literal["key", "custom_id"]
"""What names are, where both could be meant."""

_KEY = re.compile(r"[0-9]{9,}")
_COLUMNS = ["key", "custom_id", "request_index", "status", "error_code"]
_NEAREST_AMONG = 20_000
"""Names that an unknown one is compared with, for less than a second."""
_FAULTS_SHOWN = 5


@dataclass(slots=True)
class Choice:
    """Keys of images, by chunk."""

    by_chunk: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, key: str) -> None:
        """Choose an image."""
        self.by_chunk[chunk_of(key)].add(key)

    @property
    def keys(self) -> list[str]:
        """All of them, in their order."""
        return [key for chunk in sorted(self.by_chunk) for key in sorted(self.by_chunk[chunk])]


@dataclass(slots=True)
class _Id:
    """What a run has under a ``custom_id``."""

    made: list[str] = field(default_factory=list)
    failed: str | None = None
    """The code of a failure, if there was one."""


def chunk_of(key: str) -> int:
    """Return the chunk that an image of this key is in."""
    return int(key[:-4])


def chosen(folder: RunFolder, names: Sequence[str], by: By | None = None) -> Choice:
    """Return the images of these names that were made: a key names one, a ``custom_id`` all of its request.

    A key comes before an equal ``custom_id``; where requests seem to be named like keys, ``by`` must say what is meant.

    Raises:
        InputError: A name names no image that was made, or two things; one error tells all of them.
        StorageError: The store failed, or a part is damaged.
    """
    search = _Search(folder, by)
    for name in sorted(set(map(_text_of, [names] if isinstance(names, str) else names))):
        if by == "custom_id" or not search.take_key(name):
            search.ids[name] = _Id()
    if search.ids:
        search.take_ids()
    search.check()
    return search.choice


def _text_of(name: object) -> str:
    """Return a name as rows have it: whole numbers, NumPy's too, are taken as a ``custom_id`` and become text there."""
    plain = plain_value(name)
    if type(plain) not in (str, int):
        raise InputError(f"a KEY must be a text or a whole number, got {got(name)}")
    return str(plain)


class _Search:
    """Goes through the rows of a run for names, and gathers what is wrong with them."""

    def __init__(self, folder: RunFolder, by: By | None) -> None:
        self._folder, self._plan, self._by = folder, folder.read_plan(), by
        self._done = folder.committed_chunks()
        self.choice = Choice()
        self.ids: dict[str, _Id] = {}
        """Names that are to be looked for among the ids."""
        self._keys: dict[str, str] = {}
        """Names that are keys, and may be meant as ids: the id of that key's own row."""
        self._faults: list[str] = []
        self._at_hand: tuple[int, dict[str, dict[str, str]]] = (-1, {})

    def take_key(self, name: str) -> bool:
        """Choose an image by its key, or say why that is none; return False where the name is no key of the run."""
        if not self._is_key(name):
            return False
        if chunk_of(name) not in self._done:
            if self._by is None:
                return False  # it may be an id all the same
            self._faults.append(f"{name!r} is not made yet")
            return True
        row = self._row(name)
        if row is None:
            return False
        if row["status"] != SUCCESS:
            self._faults.append(f"{name!r} could not be made ({row['error_code']})")
            return True
        self.choice.add(name)
        if self._by is None and row["custom_id"] != name and _named_like_a_key(row):
            self._keys[name] = row["custom_id"]
            self.ids[name] = _Id()
        return True

    def take_ids(self) -> None:
        """Choose the images of requests, or say which names are none."""
        some: dict[str, None] = {}
        for rows in [] if self._by == "key" else read_ahead(self._rows, sorted(self._done)):
            for row in rows:
                if (found := self.ids.get(row["custom_id"])) is None:
                    if len(some) < _NEAREST_AMONG:
                        some[row["custom_id"]] = None
                elif row["status"] == SUCCESS:
                    found.made.append(row["key"])
                else:
                    found.failed = row["error_code"]
        for name, found in self.ids.items():
            self._take_id(name, found, some)

    def _take_id(self, name: str, found: _Id, some: Iterable[str]) -> None:
        if name in self._keys:
            if found.made or found.failed:
                both = f"is both, and as a key it is an image of {got(self._keys[name])}; say which with --by"
                self._faults.append(f"{name!r} {both}")
        elif found.made:
            for key in found.made:
                self.choice.add(key)
        elif found.failed:
            self._faults.append(f"{name!r} could not be made ({found.failed})")
        else:
            self._faults.append(self._unknown(name, some))

    def _unknown(self, name: str, some: Iterable[str]) -> str:
        is_key = self._is_key(name)
        if is_key and self._by is None:
            return f"{name!r} is not made yet"
        keys = self._last_keys(name) if self._by != "custom_id" else []
        is_told = len(self._faults) < _FAULTS_SHOWN  # looking through many names takes a second each
        near = get_close_matches(name, [*keys, *some], n=1) if is_told else []
        what = "neither" if self._by is None else f"no {self._by}{' but a key' if is_key else ''}"
        return f"{got(name)} is {what}{f', did you mean {near[0]}?' if near and not is_key else ''}"

    def _last_keys(self, name: str) -> list[str]:
        """Return the last key of the chunk that a name would be in, or of the last chunk: keys go no further."""
        if not re.fullmatch(r"[0-9]{5,}", name):
            return []
        chunk = min(chunk_of(name) if _KEY.fullmatch(name) else 0, self._plan.chunk_count - 1)
        return [image_key(chunk, self._plan.images_in(chunk) - 1)]

    def check(self) -> None:
        """Raise InputError if anything is wrong."""
        if not self._faults:
            return
        shown = "; ".join(self._faults[:_FAULTS_SHOWN])
        more = len(self._faults) - _FAULTS_SHOWN
        done, planned = len(self._done), self._plan.chunk_count
        raise InputError(
            f"a KEY must be the key or the custom_id of an image of {self._folder.url}, but {shown}"
            f"{f'; and {more} more' if more > 0 else ''}"
            f"{f' ({done} of {planned} chunks are done)' if done < planned else ''}"
        )

    def _is_key(self, name: str) -> bool:
        if not _KEY.fullmatch(name) or image_key(chunk_of(name), int(name[-4:])) != name:
            return False
        chunk = chunk_of(name)
        return chunk < self._plan.chunk_count and int(name[-4:]) < self._plan.images_in(chunk)

    def _row(self, key: str) -> dict[str, str] | None:
        if self._at_hand[0] != chunk_of(key):  # keys come sorted
            self._at_hand = (chunk_of(key), {row["key"]: row for row in self._rows(chunk_of(key))})
        return self._at_hand[1].get(key)

    def _rows(self, chunk: int) -> list[dict[str, str]]:
        path = part_path(chunk)
        try:
            rows: list[dict[str, str]] = read_part(self._folder.store.get(path), _COLUMNS).to_pylist()
        except FileNotFoundError as exc:
            raise StorageError(f"a part must stay while its run is read, but {exc} is gone; try again") from exc
        except pa.ArrowException as exc:
            raise StorageError(f"{self._folder.url}/{path} is damaged: {exc}") from exc
        return rows


def _named_like_a_key(row: dict[str, str]) -> bool:
    """Return whether somebody gave this row's request a name that looks like a key; unnamed ones have their number."""
    return bool(_KEY.fullmatch(row["custom_id"])) and row["custom_id"] != f"{row['request_index']:09d}"
