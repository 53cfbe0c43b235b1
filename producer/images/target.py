"""The folder that images are extracted to: what each file is called, and how it gets there whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ddim_core.contracts.plan import RunPlan
from ddim_core.contracts.record import Record, caption_of
from ddim_core.errors import OutputError
from ddim_core.storage.image_names import image_path
from producer.images.naming import By

State = Literal["missing", "there", "in the way"]
_JSON_COLUMNS = ("scheduler", "versions")


@dataclass(frozen=True, slots=True)
class Wish:
    """What to extract, and how."""

    names: Sequence[str] = ()
    """Keys, or ``custom_id``s of requests; without any, all images that were made."""
    by: By | None = None
    """Which of the two names are, where both could be meant."""
    captions: bool = False
    """Whether an image's caption lies beside it, as text."""
    rows: bool = False
    """Whether its row does, as JSON."""
    replace: bool = False
    """Whether a file of an image's name that holds something else is written over."""


class Target:
    """A folder of one run's images; threads may write to it at once, and no other extraction does meanwhile."""

    def __init__(self, folder: Path, plan: RunPlan, wish: Wish) -> None:
        """Make the folder.

        Raises:
            OutputError: It cannot be made.
        """
        self.plan = plan
        self._folder, self._wish = folder, wish
        self._by_id, self._by_key = (
            plan.model_copy(update={"container": container}) for container in ("files", "imagefolder")
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            raise OutputError(f"the output must be a folder, got {folder}: {exc.strerror}") from exc

    def __enter__(self) -> Target:
        """Lock the folder, until the process dies at the latest; it holds no file for that.

        Raises:
            OutputError: Another extraction has it: both would write to the same unfinished files.
        """
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise OutputError(f"the output must be free, but another extract writes to {self._folder}") from None
        except OSError:
            pass  # a network file system that knows no locks
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock the folder."""
        os.close(self._descriptor)

    def path(self, record: Record) -> Path:
        """Return where an image goes: with more than 10,000, into numbered folders, as in a run of image files."""
        named = record.custom_id != f"{record.request_index:09d}"
        name = image_path(self._by_id if named else self._by_key, record.key, record.custom_id, record.image)
        return self._folder / name.removeprefix("images/")

    def state(self, record: Record) -> State:
        """Return whether an image is there already, by its sha256; an empty file is what a power cut leaves."""
        path = self.path(record)
        try:
            size_bytes = path.stat().st_size if path.is_file() else -1
            if size_bytes == record.size_bytes and hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256:
                return "there"
        except OSError as exc:
            raise _unwritable(path, exc) from exc
        free = size_bytes == 0 or self._wish.replace or not (path.exists() or path.is_symlink())
        return "missing" if free else "in the way"

    def put(self, record: Record, data: bytes) -> None:
        """Write an image, and what shall lie beside it.

        Raises:
            OutputError: It cannot be written; nothing half-written is left under its name.
        """
        self._write(self.path(record), data)
        self.put_beside(record)

    def put_beside(self, record: Record) -> None:
        """Write caption and row of an image, if they are wanted and not there: somebody may have edited them."""
        wanted = ((self._wish.captions, ".txt", caption_file), (self._wish.rows, ".json", row_file))
        for is_wanted, ending, encode in wanted:
            path = self.path(record).with_suffix(ending)
            if is_wanted and (self._wish.replace or not path.exists()):
                self._write(path, encode(record))

    def _write(self, path: Path, data: bytes) -> None:
        # Always the same name: whoever goes on after a kill writes over what was half done.
        staged = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            staged.write_bytes(data)
            staged.replace(path)
        except OSError as exc:
            with suppress(OSError):
                staged.unlink(missing_ok=True)
            raise _unwritable(path, exc) from exc


def caption_file(record: Record) -> bytes:
    """Return an image's caption as a text file: of a prompt that was cut, what the model saw."""
    return caption_of(record).encode(errors="surrogatepass")


def row_file(record: Record) -> bytes:
    """Return an image's row as JSON, what a part holds as JSON in a text as what it is."""
    row = asdict(record)
    row |= {name: json.loads(row[name]) for name in _JSON_COLUMNS}
    return json.dumps(row, ensure_ascii=False, indent=1).encode(errors="surrogatepass") + b"\n"


def _unwritable(path: Path, exc: OSError) -> OutputError:
    return OutputError(f"could not write {path}: {exc.strerror}; what was written is kept: give the command again")
