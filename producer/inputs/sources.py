"""Where requests come from: files, standard input, objects in a bucket, and patterns that name many of them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ddim_core.errors import InputError
from ddim_core.storage.objects import ObjectStore, normalise_url
from ddim_core.storage.urls import folder_of
from producer.inputs.lines import opened, readable
from producer.inputs.streams import Pieces

STDIN = "-"

_WILD = re.compile(r"[*?[]")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Source:
    """One file of requests, wherever it lies."""

    name: str
    """What messages call it, and its suffix tells the format."""
    open: Callable[[], AbstractContextManager[BinaryIO]]
    """Gives its bytes, as they lie there."""
    is_piped: bool = False
    """Whether it is standard input or a named pipe, whose name tells nothing."""


def source_of(*prompts: str) -> str:
    """Return what messages call the input as a whole."""
    if len(prompts) != 1:
        return "the input"
    return "stdin" if prompts[0] == STDIN else prompts[0]


def sources(prompts: Iterable[str]) -> Iterator[Source]:
    """Yield what the arguments of a command name, in their order; the matches of a pattern sorted by name.

    Raises:
        InputError: There is no such file, none that a pattern matches, or it cannot be read.
        StorageError: A bucket cannot be listed.
    """
    for named in prompts:
        if named == STDIN:
            yield Source("stdin", _stdin, is_piped=True)
        elif (scheme := _SCHEME.match(named)) is None:
            yield from _files(Path(named), named)
        elif scheme[1].lower() == "s3":
            yield from _objects(named[scheme.end() :], named)
        else:
            yield from _files(folder_of(normalise_url(named)), named)


def _files(path: Path, named: str) -> Iterator[Source]:
    with readable(path):
        is_one = path.exists() or not _WILD.search(str(path))
    if is_one:
        yield _file(path, named)
        return
    path = path.expanduser()
    matches = sorted(match for match in Path(path.anchor).glob(str(path.relative_to(path.anchor))) if match.is_file())
    if not matches:
        raise InputError(f"a pattern must match at least one file, got {named!r}")
    for match in matches:
        yield _file(match, str(match))


def _file(path: Path, name: str) -> Source:
    # As a redirected input is called, /dev/stdin is no pipe, and its name tells nothing all the same.
    is_piped = path.is_fifo() or str(path).startswith("/dev/")
    if not path.is_fifo():
        with opened(path):  # at once: a misspelt name shall not be found after an hour of reading the others
            pass
    return Source(name, partial(opened, path), is_piped)


def _objects(place: str, url: str) -> Iterator[Source]:
    """Yield the object of a URL, or those that match where it has a pattern after the bucket's name."""
    bucket, _, path = place.partition("/")
    wild = _WILD.search(path)
    folder, _, _ = path[: wild.start() if wild else len(path)].rpartition("/")
    store = ObjectStore(f"s3://{bucket}/{folder}")
    pattern = path.removeprefix(f"{folder}/") if folder else path
    if wild is None:
        yield _object(store, pattern)
        return
    matches = sorted(key for key, _ in store.list("") if matches_path(key.split("/"), pattern.split("/")))
    if not matches:
        raise InputError(f"a pattern must match at least one object, got {url!r}")
    for key in matches:
        yield _object(store, key)


def matches_path(parts: list[str], patterns: list[str]) -> bool:
    """Return whether a path matches a pattern part by part, as in a shell: ``*`` stays within one, ``**`` does not."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(matches_path(parts[skipped:], patterns[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and matches_path(parts[1:], patterns[1:])


def _object(store: ObjectStore, key: str) -> Source:
    name = f"{store.url}/{key}"
    if not key or store.size_bytes(key) is None:
        raise InputError(f"the prompts must be a file that can be read, got {name!r}: it does not exist")
    return Source(name, partial(_streamed, store, key))


@contextmanager
def _streamed(store: ObjectStore, key: str) -> Iterator[BinaryIO]:
    """Give an object's bytes as they arrive."""
    with io.BufferedReader(Pieces(store.pieces(key))) as stream:
        yield stream


@contextmanager
def _stdin() -> Iterator[BinaryIO]:
    if sys.stdin is None:  # as where it is closed
        raise InputError("standard input must be open to be read, got none; pipe the requests in, or name a file")
    with readable(Path("stdin")):
        yield sys.stdin.buffer
