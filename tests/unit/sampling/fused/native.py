"""Calls the kernels as MindSpore does, with NumPy arrays: no MindSpore, and every library that this CPU can run."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddim_core.sampling.fused.library import _cpu_flags, instruction_sets
from ddim_core.sampling.fused.sources import INSTRUCTION_SETS, LIBRARIES, library_name

Array = np.ndarray[Any, Any]

SETS = INSTRUCTION_SETS.get(platform.machine(), ())


def library_or_skip(instruction_set: str) -> ctypes.CDLL:
    """Return the library of an instruction set; skip where this CPU lacks it, or where it was not built."""
    if instruction_set not in instruction_sets(platform.machine(), _cpu_flags()):
        pytest.skip(f"this CPU has no {instruction_set}")
    path = LIBRARIES / library_name(instruction_set)
    if not path.is_file():
        if os.environ.get("DDIM_FLEET_TEST_ALL"):
            pytest.fail(f"{path} must have been built")
        pytest.skip("the fused kernels were not built: python hatch_build.py native")
    return load(path)


def load(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))


def status(library: ctypes.CDLL, kernel: str, inputs: Sequence[Any], out: Array) -> int:
    """Call a kernel with float32 inputs; it writes into ``out``. Returns what it returns."""
    tensors = [*(np.ascontiguousarray(each, np.float32) for each in inputs), out]
    count = len(tensors)
    shapes = [(ctypes.c_int64 * max(each.ndim, 1))(*each.shape) for each in tensors]
    return int(
        getattr(library, f"ddim_{kernel}")(
            count,
            (ctypes.c_void_p * count)(*(each.ctypes.data for each in tensors)),
            (ctypes.c_int * count)(*(each.ndim for each in tensors)),
            (ctypes.c_void_p * count)(*(ctypes.addressof(shape) for shape in shapes)),
            (ctypes.c_char_p * count)(*[b"float32"] * count),
            None,
            None,
        )
    )


def call(library: ctypes.CDLL, kernel: str, inputs: Sequence[Any], shape: Sequence[int]) -> Array:
    """Return the output of a kernel, which must write all of it."""
    out = np.full(shape, np.nan, np.float32)
    assert status(library, kernel, inputs, out) == 0
    return out


def run_driver(command: Sequence[str], kernel: str, inputs: Sequence[Any], shape: Sequence[int]) -> Array:
    """Return the output of a kernel that a program made of ``driver.cc`` calls; fails with what the program says."""
    tensors = [np.asarray(each, np.float32) for each in inputs]
    told = [np.int64(len(tensors) + 1).tobytes()]
    for tensor in tensors:
        told += [np.array([tensor.ndim, *tensor.shape], np.int64).tobytes(), tensor.tobytes()]
    told.append(np.array([len(shape), *shape], np.int64).tobytes())
    done = subprocess.run([*command, kernel], input=b"".join(told), capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    return np.frombuffer(done.stdout, np.float32).reshape(shape)
