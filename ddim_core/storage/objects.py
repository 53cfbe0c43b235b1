"""An object store by URL: a folder (``file://`` or a plain path) or a bucket (``s3://``), behind the same few verbs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from ddim_core.errors import OutputError, StorageError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

SCHEMES = ("file", "s3")

# obstore retries a 501 as it does a 503, ten times (some stores answer a conditional put so): few retries, then one clear error.
_RETRIES: RetryConfig = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=5), "base": 2},
}
_CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}


def normalise_url(url: str) -> str:
    """Return a store URL in one form: an absolute ``file://`` URL for a path, no trailing slash.

    Raises:
        OutputError: The scheme is not one of ``SCHEMES``, or a bucket is missing.
    """
    parts = urlsplit(url)
    if "://" not in url:
        return Path(url).expanduser().resolve().as_uri()
    if parts.scheme not in SCHEMES:
        allowed = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise OutputError(f"a store URL must start with one of {allowed} or be a path, got {url!r}")
    if parts.scheme == "s3" and not parts.netloc:
        raise OutputError(f"an s3 URL must name a bucket, as in s3://bucket/folder, got {url!r}")
    if parts.scheme == "file" and (parts.netloc not in ("", "localhost") or not parts.path.startswith("/")):
        raise OutputError(f"a file URL must be absolute, as in file:///data/run, got {url!r}")
    return url.rstrip("/")


class ObjectStore:
    """The objects below one URL. Every put is atomic: a reader sees the whole object or none.

    S3 settings come from the environment under the names of the AWS tools (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
    ``AWS_REGION``, ``AWS_ENDPOINT_URL``), so that every host can have its own.
    """

    def __init__(self, url: str) -> None:
        """Open the store at ``url``; nothing is created, read or written before the first verb.

        Raises:
            OutputError: The URL cannot name a store.
        """
        self.url = normalise_url(url)
        self._store = _open(self.url)

    def put(self, path: str, data: bytes) -> None:
        """Write an object, replacing one of the same name."""
        with self._errors("write", path):
            obstore.put(self._store, path, data)

    def put_new(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether this call wrote it.

        Atomic where the store knows conditional puts; elsewhere two callers at once may both be told that they wrote it.
        """
        try:
            obstore.put(self._store, path, data, mode="create")
            return True
        except AlreadyExistsError:
            return False
        except (BaseError, OSError, NotImplementedError):
            if self.exists(path):
                return False
            self.put(path, data)
            return True

    def get(self, path: str) -> bytes:
        """Return an object's bytes.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: The store failed.
        """
        with self._errors("read", path):
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except (NotFoundError, FileNotFoundError) as exc:
                raise FileNotFoundError(f"{self.url}/{path}") from exc

    def size_bytes(self, path: str) -> int | None:
        """Return an object's size, or None if there is none."""
        with self._errors("look for", path):
            try:
                return int(obstore.head(self._store, path)["size"])
            except (NotFoundError, FileNotFoundError):
                return None

    def exists(self, path: str) -> bool:
        """Return whether there is an object of that name."""
        return self.size_bytes(path) is not None

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of the objects below ``prefix``, in no promised order; none if it does not exist."""
        with self._errors("list", prefix):
            try:
                for batch in obstore.list(self._store, prefix, chunk_size=1000):
                    yield from ((meta["path"], int(meta["size"])) for meta in batch)
            except (NotFoundError, FileNotFoundError):
                return

    def delete(self, path: str) -> None:
        """Remove an object; it is no error if there is none."""
        with self._errors("delete", path):
            try:
                obstore.delete(self._store, path)
            except (NotFoundError, FileNotFoundError):
                return

    def check_writable(self) -> None:
        """Write and remove a probe object.

        Raises:
            OutputError: The store does not take it; the message says why.
        """
        probe = f".ddim-fleet-probe-{os.getpid()}"
        try:
            self.put(probe, b"probe")
            self.delete(probe)
        except StorageError as exc:
            raise OutputError(f"the output must be writable: {exc}") from exc

    @contextmanager
    def _errors(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (BaseError, OSError) as exc:
            raise StorageError(f"could not {verb} {self.url}/{path}: {_reason(exc)}") from exc


def _open(url: str) -> LocalStore | S3Store:
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        _refuse_file(folder, url)
        try:
            return LocalStore(prefix=folder, mkdir=True)
        except (BaseError, OSError) as exc:
            raise OutputError(f"the folder of {url} could not be opened: {_reason(exc)}") from exc
    options: ClientConfig = {**_CLIENT, "allow_http": True}
    try:
        return S3Store(
            parts.netloc, prefix=unquote(parts.path).strip("/") or None, client_options=options, retry_config=_RETRIES
        )
    except BaseError as exc:
        raise OutputError(f"the bucket of {url} could not be opened: {_reason(exc)}") from exc


def _refuse_file(folder: Path, url: str) -> None:
    for path in (folder, *folder.parents):
        if path.exists():
            if not path.is_dir():
                raise OutputError(f"a store must be a folder, but {path} is a file, in {url}")
            return


def _reason(exc: Exception) -> str:
    """Return the first line of a store's error, without the debug dump that obstore appends."""
    text = str(exc).strip().split("\n")[0].strip()
    return text[:300] or type(exc).__name__
