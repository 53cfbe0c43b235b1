"""A checkpoint in the one form that model libraries read alike: a folder for each component, weights of no variant."""

from __future__ import annotations

import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ddim_core.checkpoints.folder import CheckpointInfo
from ddim_core.errors import CheckpointError


@contextmanager
def in_plain_form(info: CheckpointInfo) -> Iterator[CheckpointInfo]:
    """Yield the checkpoint in its plain form, which is a folder of links for the time of the block if it has another.

    The folder holds the files that the digest covers and no others. Configurations that begin with a byte-order mark
    are copied without it, since mindone does not read them.

    Raises:
        CheckpointError: One that the block raises, with the checkpoint's own folder in place of that of the links.
    """
    if _is_plain(info):
        yield info
        return
    with tempfile.TemporaryDirectory(prefix="ddim-fleet-model-") as name:
        folder = Path(name)
        for plain, path in info.plain_names.items():
            (folder / plain).parent.mkdir(parents=True, exist_ok=True)
            _lay_out(info.folder / path, folder / plain)
        try:
            yield replace(info, folder=folder)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(name, str(info.folder))) from error


def _is_plain(info: CheckpointInfo) -> bool:
    is_plain = all(plain == path for plain, path in info.plain_names.items())
    return is_plain and not any(_has_mark(info.folder / path) for path in info.plain_names.values())


def _has_mark(path: Path) -> bool:
    if path.suffix != ".json":
        return False
    with path.open("rb") as file:
        return file.read(len(BOM_UTF8)) == BOM_UTF8


def _lay_out(source: Path, target: Path) -> None:
    if _has_mark(source):
        target.write_bytes(source.read_bytes().removeprefix(BOM_UTF8))
    else:
        target.symlink_to(source.absolute())
