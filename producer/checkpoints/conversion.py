"""A checkpoint folder out of a single file: a process of its own makes it, and it appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ddim_core.checkpoints.folder import configurations, describe, digest, resolve
from ddim_core.checkpoints.tensors import tensors_of
from ddim_core.contracts.conversion import COMPLAINT, CONVERT_MODULE, ConversionOrder
from ddim_core.errors import HostError, InputError
from producer.local.child import running


def convert(file: Path, like: str, out: Path) -> str:
    """Make a checkpoint folder of a single file of weights, and return its digest.

    Args:
        file: Safetensors.
        like: A checkpoint of the same kind, which gives configurations and tokenizers; it needs no weights.
        out: The new folder.

    Raises:
        InputError: The file is not safetensors or does not fit ``like``, or there is something at ``out``.
        HostError: This host cannot convert.
    """
    model = resolve(like).absolute()
    configurations(model)  # what is missing there is said before MindSpore is started
    if not file.is_file() or file.suffix != ".safetensors":
        raise InputError(f"the file must be a single .safetensors, got {file}; pickled weights are never opened")
    tensors_of(file)
    if out.exists() or out.is_symlink():
        raise InputError(f"--out must be a new folder, got {out}, which is there already; choose another")
    if find_spec(CONVERT_MODULE.partition(".")[0]) is None:
        raise HostError("converting needs the workers: pip install 'ddim-fleet[worker]'")
    with _beside(out.absolute()) as folder:
        _run(ConversionOrder(file=str(file.absolute()), like=str(model), folder=str(folder)))
        describe(folder)
        found = digest(folder)
        folder.rename(out)
    return found


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Give an empty folder next to ``out``, on the same disk; it goes when the block ends, unless it was renamed.

    One that a killed command left goes, too.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".{out.name}.converting-*"):
            if not Path(f"/proc/{left.name.rpartition('-')[2]}").exists():
                shutil.rmtree(left, ignore_errors=True)
        folder = out.with_name(f".{out.name}.converting-{os.getpid()}")
        folder.mkdir()
    except OSError as exc:
        raise InputError(f"--out must be a folder that can be made, got {out}: {exc.strerror}") from exc
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(order: ConversionOrder) -> None:
    with tempfile.TemporaryDirectory(prefix="ddim-fleet-convert-") as place:
        command = [sys.executable, "-m", CONVERT_MODULE]
        log = Path(place) / "log"
        with running("the converting process", command, log, stdin=order.model_dump_json().encode()) as child:
            if code := child.process.wait():
                raise child.complaint(COMPLAINT, code)
