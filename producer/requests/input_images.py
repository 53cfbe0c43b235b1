"""The pictures that requests invert: checked with them, kept in a temporary folder, then copied into the run."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from PIL import Image, UnidentifiedImageError

from ddim_core.contracts.sample import Size
from ddim_core.errors import HostError, InputError, StorageError
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import RunFolder
from producer.requests.messages import got

LARGEST_BYTES = 64 * 2**20
"""Of a picture as a file: more than 8192 x 8192 pixels take as JPEG."""

_ENDINGS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


@dataclass(frozen=True, slots=True)
class _Copy:
    name: str
    """In the run's folder."""
    size: Size


class Pictures:
    """Copies of pictures under the names that they will have in the run's folder, each once."""

    def __init__(self) -> None:
        """Begin without any, and without a folder."""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._copies: dict[str, _Copy] = {}

    def add(self, reference: str, size: Size) -> str:
        """Copy the picture of a path or URL; return the copy's name in the run's folder.

        Raises:
            InputError: There is none of this size that can be used; the message is the rule it breaks.
            HostError: There is no room for the copy.
        """
        if reference not in self._copies:
            self._copies[reference] = self._copied(reference)
        copy = self._copies[reference]
        if copy.size != size:
            raise InputError(f"must be of {size} pixels, as the request, got {copy.size} in {got(reference)}")
        return copy.name

    def write(self, folder: RunFolder) -> None:
        """Write all copies into a run's folder.

        Raises:
            StorageError: The store failed.
        """
        for name, data in self._all():
            folder.store.put(name, data)

    def __enter__(self) -> Pictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _copied(self, reference: str) -> _Copy:
        data = _read(reference)
        try:
            with Image.open(io.BytesIO(data), formats=list(_ENDINGS)) as image:
                if image.mode != "RGB" or getattr(image, "n_frames", 1) != 1:
                    raise InputError(f"must be one RGB picture, got mode {image.mode} in {got(reference)}")
                image.load()
                name = f"inputs/{hashlib.sha256(data).hexdigest()}.{_ENDINGS[str(image.format)]}"
                copy = _Copy(name, Size(height=image.height, width=image.width))
        except UnidentifiedImageError:
            raise InputError(f"must be a {', '.join(_ENDINGS)} file, got {got(reference)}") from None
        except (OSError, ValueError, Image.DecompressionBombError) as exc:
            raise InputError(f"must be a whole picture, got {got(reference)}: {exc}") from exc
        self._keep(copy, data)
        return copy

    def _keep(self, copy: _Copy, data: bytes) -> None:
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="ddim-fleet-pictures-")
            (Path(self._folder.name) / copy.name.rpartition("/")[2]).write_bytes(data)
        except OSError as exc:
            place = tempfile.gettempdir()
            raise HostError(f"there must be room for the pictures in {place}, got: {exc.strerror}; set TMPDIR") from exc

    def _all(self) -> Iterator[tuple[str, bytes]]:
        for name in sorted({copy.name for copy in self._copies.values()}):
            assert self._folder is not None
            yield name, (Path(self._folder.name) / name.rpartition("/")[2]).read_bytes()


def _read(reference: str) -> bytes:
    """Return a file's or an object's bytes.

    Raises:
        InputError: It cannot be read, or is too large; the message is the rule it breaks.
    """
    try:
        size_bytes, data = _object(reference) if "://" in reference else _file(Path(reference).expanduser())
    except FileNotFoundError:
        raise InputError(f"must be a picture that can be read, got {got(reference)}: it does not exist") from None
    except OSError as exc:
        raise InputError(f"must be a picture that can be read, got {got(reference)}: {exc.strerror}") from exc
    except (ValueError, InputError, StorageError) as exc:
        raise InputError(f"must be a picture that can be read, got {got(reference)}: {exc}") from exc
    if data is None:
        raise InputError(f"must have at most {LARGEST_BYTES} bytes, got {size_bytes} in {got(reference)}")
    return data


def _file(path: Path) -> tuple[int, bytes | None]:
    size_bytes = path.stat().st_size
    return size_bytes, path.read_bytes() if size_bytes <= LARGEST_BYTES else None


def _object(url: str) -> tuple[int, bytes | None]:
    folder, _, name = url.rpartition("/")
    store = ObjectStore(folder)
    size_bytes = store.size_bytes(name) or 0
    return size_bytes, store.get(name) if size_bytes <= LARGEST_BYTES else None
