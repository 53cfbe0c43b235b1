"""An S3 bucket as an object store, with limits on how long a dead or misconfigured service can hold us up."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from ddim_core.storage.credentials import CredentialsFile
from ddim_core.storage.endpoint import SET_KEYS, check_endpoint, check_settings

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig

Answer = TypeVar("Answer")
SMALL_BYTES = 64 << 10
"""What a link of 1 MB/s takes within ``_ANSWER_TIMEOUT_S``, though a dozen uploads share it."""
PIECE_BYTES = 1 << 20

_CONNECT_TIMEOUT_S = 5
_ANSWER_TIMEOUT_S = 10
_UPLOAD_TIMEOUT_S = 300
_UPLOAD_RETRY_S = 60
_PARTS_AT_ONCE = 4
"""Of one upload. obstore's own dozen would each get too little of a slow link, and none be done in time."""

# A service that does not answer is given up after two tries of _ANSWER_TIMEOUT_S, one that answers 503 after seven.
_BRISK: ClientConfig = {
    "allow_http": True,
    "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
    "read_timeout": timedelta(seconds=_ANSWER_TIMEOUT_S),
    # Of a whole download; obstore's own 30 s are too short for a shard.
    "timeout": timedelta(hours=1),
}
_BRISK_RETRIES: RetryConfig = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=4), "base": 2},
}
# obstore uploads what is larger than 5 MB in parts of that size; each has _UPLOAD_TIMEOUT_S.
_UPLOAD: ClientConfig = {
    "allow_http": True,
    "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
    "timeout": timedelta(seconds=_UPLOAD_TIMEOUT_S),
}
_UPLOAD_RETRIES: RetryConfig = {**_BRISK_RETRIES, "retry_timeout": timedelta(seconds=_UPLOAD_RETRY_S)}

_ANSWER = (r"status code: (\d+ [\w ]+)", r"<Code>(.*?)</Code>", r"<Message>(.*?)</Message>")
_CUTS, _CUT_PAUSE_S = 3, 0.2
"""How often an answer may be cut in the middle, and how long to wait after the first."""


class Bucket:
    """The objects of a bucket below one prefix."""

    def __init__(self, name: str, prefix: str) -> None:
        """Name the bucket; the service is not asked yet.

        Raises:
            OutputError: The environment lacks credentials, or its endpoint cannot lead to the bucket.
        """
        check_settings(os.environ)
        check_endpoint(os.environ, name)
        self._credentials = CredentialsFile.named_by(os.environ)
        self._name, self._prefix = name, prefix
        self._brisk = self._open(_BRISK, _BRISK_RETRIES)
        self._upload = self._open(_UPLOAD, _UPLOAD_RETRIES)

    def put(self, path: str, data: bytes) -> None:
        """Write an object, replacing one of the same name."""
        if len(data) <= SMALL_BYTES:
            _again_if_cut(lambda: obstore.put(self._brisk, path, data))
        else:
            _again_if_cut(lambda: obstore.put(self._upload, path, data, max_concurrency=_PARTS_AT_ONCE))

    def put_pieces(self, path: str, pieces: Iterator[bytes]) -> None:
        """Write an object piece by piece; it is there once the last one is."""
        obstore.put(self._upload, path, pieces, max_concurrency=_PARTS_AT_ONCE)

    def put_new(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether this call wrote it.

        Atomic where the service knows conditional puts. Swift answers 501 to them, and obstore would retry that; OBS
        documents none, and a service that ignores the condition would overwrite: hence the look before, and no retries.
        """
        if self.size_bytes(path) is not None:
            return False
        try:
            obstore.put(self._open(_BRISK, {"max_retries": 0}), path, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except BaseError:
            return self._put_unless_there(path, data)
        return True

    def get(self, path: str) -> bytes:
        """Return an object's bytes."""
        return _again_if_cut(lambda: bytes(obstore.get(self._brisk, path).bytes()))

    def get_range(self, path: str, start: int, size_bytes: int) -> bytes:
        """Return some of an object's bytes; a service that knows no ranges sends all of them."""
        if size_bytes <= 0:
            return b""
        try:
            return _again_if_cut(lambda: bytes(obstore.get_range(self._brisk, path, start=start, length=size_bytes)))
        except BaseError as exc:
            if "status code: 416" in str(exc):  # it begins behind the end
                return b""
            if "non-partial response" not in str(exc):
                raise
        return _range_of(self.pieces(path), start, size_bytes)

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield an object's bytes in pieces of ``PIECE_BYTES`` or a little more."""
        for piece in _again_if_cut(lambda: obstore.get(self._brisk, path)).stream(min_chunk_size=PIECE_BYTES):
            yield bytes(piece)

    def size_bytes(self, path: str) -> int | None:
        """Return an object's size, or None if there is none."""
        try:
            return int(_again_if_cut(lambda: obstore.head(self._brisk, path))["size"])
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield path and size of the objects below ``prefix``."""
        first, others = _again_if_cut(lambda: self._first_page(prefix))  # from later ones on, the list would start anew
        for page in itertools.chain([first], others):
            yield from ((meta["path"], int(meta["size"])) for meta in page)

    def delete(self, path: str) -> None:
        """Remove an object, if there is one."""
        _again_if_cut(lambda: obstore.delete(self._brisk, path))

    def _first_page(self, prefix: str) -> tuple[Sequence[ObjectMeta], Iterator[Sequence[ObjectMeta]]]:
        pages = iter(obstore.list(self._brisk, prefix, chunk_size=1000))
        return next(pages, []), pages

    def _put_unless_there(self, path: str, data: bytes) -> bool:
        """Write after a refused conditional put; one that was done although its answer got lost counts as ours."""
        try:
            return self.get(path) == data
        except FileNotFoundError:
            self.put(path, data)
            return True

    def _open(self, client: ClientConfig, retries: RetryConfig) -> S3Store:
        return S3Store(
            self._name,
            prefix=self._prefix or None,
            client_options=client,
            retry_config=retries,
            credential_provider=self._credentials,
        )


def _again_if_cut(ask: Callable[[], Answer]) -> Answer:
    """Return what ``ask`` brings; obstore itself does not ask again where the text of an error or a list was cut."""
    for cuts in range(_CUTS):
        try:
            return ask()
        except BaseError as exc:
            if not _was_cut(exc):
                raise
            time.sleep(_CUT_PAUSE_S * 2**cuts)
    return ask()


def _range_of(pieces: Iterable[bytes], start: int, size_bytes: int) -> bytes:
    found, at = bytearray(), 0
    for piece in pieces:
        found += piece[max(0, start - at) : max(0, start + size_bytes - at)]
        at += len(piece)
        if at >= start + size_bytes:
            break
    return bytes(found)


def _was_cut(exc: BaseError) -> bool:
    return "request or response body error" in str(exc)


def bucket_is_missing(exc: Exception) -> bool:
    """Return whether the service said that there is no such bucket."""
    return "<Code>NoSuchBucket</Code>" in str(exc)


def reason(exc: Exception) -> str:
    """Return in one line what a service answered, or what kept it from answering, out of obstore's debug dump."""
    text = str(exc).strip()
    if "/latest/api/token" in text or "/latest/meta-data" in text:
        return f"no S3 credentials; {SET_KEYS}"
    line = text.split("\n", 1)[0]
    if refused := re.search(r"credential provider: [\w.]+: (.*)", line):
        return refused[1]
    request = re.search(r"Error performing (\w+ [^\s?]+)", line)  # a query may hold what is nobody's business
    where = f" ({request[1]})" if request else ""
    return _cause(text, line)[:300] + where


def _cause(text: str, line: str) -> str:
    answer = [match[1].strip() for pattern in _ANSWER if (match := re.search(pattern, text))]
    if answer:
        return ": ".join(answer)
    if "error sending request" in line:
        if re.search(r"kind: Timeout|TimedOut|ConnectTimeout", text):
            return "the service did not answer in time"
        system = re.findall(r'message: "(.*?)"', text)
        return f"the service cannot be reached: {system[-1]}" if system else "the service cannot be reached"
    if "request or response body error" in line:
        return "the connection was cut in the middle of an answer, again and again"
    return line.rsplit(" - ", 1)[-1].strip()
