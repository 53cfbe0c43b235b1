"""Setting MindSpore up: what is refused, and how its errors read. A device is for ever, so each case has a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mindspore")

from ddim_core.errors import DeviceError, OutOfMemoryError
from ddim_core.sampling.device import device_error, peak_memory_bytes, reset_peak_memory, total_memory_bytes

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]


def start(code: str, **environment: str) -> str:
    """Return the last line that the code leaves on standard error."""
    code = f"from ddim_core.sampling import device; {code}"
    command = [sys.executable, "-W", "ignore", "-c", code]
    ended = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    return ended.stderr.strip().splitlines()[-1]


def test_the_compile_cache_is_refused() -> None:
    """It hands one process another one's graphs: wrong images without an error."""
    line = start("device.start('CPU')", MS_COMPILER_CACHE_ENABLE="1")
    assert "HostError: MS_COMPILER_CACHE_ENABLE must be unset, got 1" in line
    line = start("import mindspore; mindspore.set_context(enable_compile_cache=True); device.start('CPU')")
    assert "HostError: enable_compile_cache must be off, got on" in line


@pytest.mark.skipif(Path("/dev/davinci_manager").exists(), reason="this host has an NPU")
def test_a_device_that_is_not_there_is_one_line() -> None:
    """Not the twenty that MindSpore prints."""
    line = start("device.start('Ascend', 0)")
    assert line.startswith("ddim_core.errors.HostError: device must be one that MindSpore can use, got Ascend:0: ")


@pytest.mark.skipif(Path("/dev/davinci_manager").exists(), reason="this host has an NPU")
def test_a_library_that_cannot_be_loaded_is_named_with_the_remedy() -> None:
    """On a host whose environment lacks CANN's, MindSpore says only far below that it is a library."""
    line = start("device.start('Ascend', 0)")
    assert ".so: cannot open shared object file: No such file or directory: is CANN's set_env.sh in this env" in line


def test_a_device_that_does_not_start_may_do_so_later() -> None:
    """A host error would end its supervisor's attempts; a chip that is being reset comes back."""
    failing = "import unittest.mock as m; device.ms.set_device = m.Mock(side_effect=RuntimeError('507033 set device'))"
    line = start(f"{failing}; device.start('Ascend', 0)")
    assert line == "ddim_core.errors.DeviceError: the device must start, got Ascend:0: 507033 set device"


def test_an_unknown_kind_is_refused() -> None:
    """The message names those there are."""
    assert "HostError: device must be CPU or Ascend, got TPU" in start("device.start('TPU')")


@pytest.mark.parametrize(
    "text",
    [
        "Device(id:0) memory isn't enough and alloc failed, kernel name: Default/MatMul",
        "\n----\n- Memory not enough:\n----\nDevice(id:0) memory isn't enough",
        "Out of Memory!!! Request memory size: 4096",
        "Allocate memory failed",
        "Malloc device memory failed, size[1024], ret[207001]",
        "halMemAlloc failed",
        "Return value from CPU AOT kernel(/a/fused-x86-64-v4.so)'s function(ddim_resnet) is 12. Any return value not",
        "Call aclrtMalloc failed, error code: 207001",
        "The memory is not enough",
        "Failed to allocate memory. Possible Cause: Available memory is insufficient.",
        "Malloc physical memory failed",
        "Allocate device memory failed!",
    ],
)
def test_a_lack_of_memory_is_told_from_other_failures(text: str) -> None:
    """It can be mended with fewer slots; MindSpore raises RuntimeError for everything."""
    assert isinstance(device_error(RuntimeError(text)), OutOfMemoryError)
    assert "\n" not in str(device_error(RuntimeError(text)))


def test_other_failures_keep_the_line_that_says_something() -> None:
    """Rulers and call stacks stay in the log."""
    failed = device_error(RuntimeError("\n-----\n- Kernel select failed:\n-----\nUnsupported op [Chunk] on CPU"))
    assert type(failed) is DeviceError
    assert str(failed) == "the device failed: Kernel select failed: Unsupported op [Chunk] on CPU"
    assert str(device_error(ValueError())) == "the device failed: ValueError"


def test_the_peak_of_memory_is_that_since_it_was_reset() -> None:
    """Or what one size needed would be taken for the next one's need, and every size would get one slot."""
    reset_peak_memory()
    before = peak_memory_bytes()
    block = np.ones(64 * 2**20, np.float32)
    assert block.sum() > 0
    with_block = peak_memory_bytes()
    del block
    reset_peak_memory()
    assert with_block - before > 200 * 2**20
    assert with_block - peak_memory_bytes() > 200 * 2**20
    assert total_memory_bytes() is None
