"""An object store by URL: a folder (``file://`` or a plain path) or a bucket (``s3://``), behind the same few verbs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError

from ddim_core.errors import OutputError, StorageError
from ddim_core.hiding import secrets_in, without_secrets
from ddim_core.storage.bucket import Bucket, bucket_is_missing, reason
from ddim_core.storage.endpoint import service_of
from ddim_core.storage.folder import Folder
from ddim_core.storage.urls import SCHEMES, bucket_of, folder_of, normalise_url

__all__ = ["SCHEMES", "ObjectStore", "normalise_url"]


class ObjectStore:
    """The objects below one URL. Every put is atomic: a reader sees the whole object or none.

    S3 settings come from the environment under the names of the AWS tools (``AWS_ACCESS_KEY_ID``,
    ``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``), so that every host can have its own.
    """

    def __init__(self, url: str) -> None:
        """Open the store at ``url``; nothing is created, read or written before the first verb.

        Raises:
            OutputError: The URL cannot name a store, or S3 lacks credentials.
        """
        self.url = normalise_url(url)
        self._store = Folder(folder_of(self.url)) if self.url.startswith("file:") else Bucket(*bucket_of(self.url))

    def put(self, path: str, data: bytes) -> None:
        """Write an object, replacing one of the same name."""
        with self._errors("write", path):
            self._store.put(path, data)

    def put_pieces(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write an object that memory should not hold whole, replacing one of the same name."""
        with self._errors("write", path):
            self._store.put_pieces(path, iter(pieces))

    def put_new(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one; return whether this call wrote it.

        Atomic where the store knows conditional puts; elsewhere two callers at once may both be told that they did.
        """
        with self._errors("write", path):
            return self._store.put_new(path, data)

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield an object's bytes in pieces of about a megabyte, for objects that memory should not hold whole.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: The store failed, before the first piece or between two.
        """
        with self._errors("read", path):
            try:
                yield from self._store.pieces(path)
                return
            except (FileNotFoundError, NotADirectoryError) as exc:
                if bucket_is_missing(exc):
                    raise
                missing = FileNotFoundError(f"{self.url}/{path}")
        raise missing

    def get(self, path: str) -> bytes:
        """Return an object's bytes.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: The store failed.
        """
        return self._read(path, lambda: self._store.get(path))

    def get_range(self, path: str, start: int, size_bytes: int) -> bytes:
        """Return some of an object's bytes: fewer than asked for at its end, none behind it.

        Raises:
            FileNotFoundError: There is no such object.
            StorageError: The store failed.
        """
        return self._read(path, lambda: self._store.get_range(path, start, size_bytes))

    def size_bytes(self, path: str) -> int | None:
        """Return an object's size, or None if there is none."""
        with self._errors("look for", path):
            return self._store.size_bytes(path)

    def exists(self, path: str) -> bool:
        """Return whether there is an object of that name."""
        return self.size_bytes(path) is not None

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of the objects below ``prefix``, in no promised order, if there are any."""
        with self._errors("list", prefix):
            yield from self._store.list(prefix)

    def delete(self, path: str) -> None:
        """Remove an object; it is no error if there is none."""
        with self._errors("delete", path):
            self._store.delete(path)

    def check_writable(self, size_bytes: int = 16) -> None:
        """Write and remove a probe object of this size, which no file system can compress.

        Raises:
            OutputError: The store does not take it; the message says why.
        """
        probe = f".ddim-fleet-probe-{os.getpid()}"
        try:
            self.put(probe, os.urandom(size_bytes))
            self.delete(probe)
        except StorageError as exc:
            raise OutputError(f"the output must be writable: {exc}") from exc

    def _read(self, path: str, read: Callable[[], bytes]) -> bytes:
        with self._errors("read", path):
            try:
                return read()
            except (FileNotFoundError, NotADirectoryError) as exc:
                if bucket_is_missing(exc):
                    raise
                missing = FileNotFoundError(f"{self.url}/{path}")
        raise missing

    @contextmanager
    def _errors(self, verb: str, path: str) -> Iterator[None]:
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:  # from a row or a list somebody changed
            raise StorageError(f"an object's name must lead into its store, got {path!r:.80} in {self.url}")
        try:
            yield
        except (BaseError, OSError) as exc:
            place = f"{self.url}/{path}".rstrip("/")
            if bucket_is_missing(exc):
                bucket, _ = bucket_of(self.url)
                rule = f"there is no bucket {bucket!r}; create it first, at {service_of(os.environ)}"
                raise OutputError(f"could not {verb} {place}: {rule}") from exc
            why = exc.strerror if isinstance(exc, OSError) and exc.strerror else reason(exc)
            why = without_secrets(why, secrets_in(os.environ))  # a service may send back what it was sent
            raise StorageError(f"could not {verb} {place}: {why}") from exc
