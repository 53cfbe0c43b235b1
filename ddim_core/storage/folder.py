"""A folder as an object store: every write is atomic, and on the disk before it is reported done."""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR

from ddim_core.errors import OutputError

PIECE_BYTES = 1 << 20

_STAGED = re.compile(r"#\d+$")
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class Folder:
    """The files below one folder, which need not exist before the first write.

    A write is staged beside its target as ``name#<digits>``. A killed process may leave one behind: no verb shows it.
    """

    def __init__(self, root: Path) -> None:
        """Name the folder.

        Raises:
            OutputError: A file stands where the folder, or one above it, should be.
        """
        self._root = root
        for path in (root, *root.parents):
            try:
                mode = path.stat().st_mode
            except OSError:
                continue
            if not S_ISDIR(mode):
                raise OutputError(f"a store must be a folder, but {path} is a file; choose another")
            return

    def put(self, path: str, data: bytes) -> None:
        """Write a file, replacing one of the same name."""
        self.put_pieces(path, [data])

    def put_pieces(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write a file piece by piece, replacing one of the same name at the end."""
        with self._staged(path, pieces) as (staged, target):
            staged.replace(target)

    def put_new(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one; return whether this call wrote it."""
        if self.size_bytes(path) is not None:
            return False
        with self._staged(path, [data]) as (staged, target):
            try:
                target.hardlink_to(staged)
            except FileExistsError:
                return False
            except OSError as exc:
                if exc.errno not in _NO_LINKS:
                    raise
                staged.replace(target)
        return True

    def get(self, path: str) -> bytes:
        """Return a file's bytes."""
        return (self._root / path).read_bytes()

    def get_range(self, path: str, start: int, size_bytes: int) -> bytes:
        """Return some of a file's bytes."""
        with (self._root / path).open("rb") as file:
            file.seek(start)
            return file.read(size_bytes)

    def pieces(self, path: str) -> Iterator[bytes]:
        """Yield a file's bytes in pieces of ``PIECE_BYTES``."""
        with io.FileIO(f"{self._root}/{path}") as file:  # a path object would cost as much as reading a small file
            while piece := file.read(PIECE_BYTES):
                yield piece

    def size_bytes(self, path: str) -> int | None:
        """Return a file's size, or None if there is none."""
        return _size_bytes(self._root / path)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield path and size of the files below ``prefix``, without those that are still being written."""
        for folder, _, names in os.walk(self._root / prefix, onerror=_raise_unless_missing):
            below = Path(folder).relative_to(self._root).parts  # once, since a path object costs more than a name
            for name in names:
                size_bytes = None if _STAGED.search(name) else _size_bytes(f"{folder}/{name}")
                if size_bytes is not None:
                    yield "/".join((*below, name)), size_bytes

    def delete(self, path: str) -> None:
        """Remove a file, if there is one."""
        self._inside(path).unlink(missing_ok=True)

    def _inside(self, path: str) -> Path:
        """Return a file that may be written: whoever put a link into the folder shall not choose what is changed."""
        target = self._root / path
        root = os.path.realpath(self._root)
        if os.path.commonpath([root, os.path.realpath(target.parent)]) != root:
            raise PermissionError(errno.EPERM, "a link leads out of the store")
        return target

    @contextmanager
    def _staged(self, path: str, pieces: Iterable[bytes]) -> Iterator[tuple[Path, Path]]:
        """Write ``pieces`` beside their target; what the caller then renames or links survives a power cut."""
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = target.with_name(f"{target.name}#{secrets.randbits(63)}")
        try:
            with staged.open("xb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            yield staged, target
            _sync_folder(target.parent)
        finally:
            staged.unlink(missing_ok=True)


def _size_bytes(path: Path | str) -> int | None:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - listing a hundred thousand files would take twice as long
    except (FileNotFoundError, NotADirectoryError):
        return None


def _sync_folder(folder: Path) -> None:
    """Bring a new name to the disk: without it a commit marker could outlive the shard that it stands for."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def _raise_unless_missing(exc: OSError) -> None:
    if not isinstance(exc, (FileNotFoundError, NotADirectoryError)):
        raise exc
