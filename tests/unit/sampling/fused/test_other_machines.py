"""The kernels of another kind of CPU, cross-built and emulated: the bits of this one."""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from ddim_core.sampling.fused.sources import FLAGS, SOURCES
from tests.unit.sampling.fused import native
from tests.unit.sampling.fused.formulas import Draw

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).with_name("driver.cc")
ROOT = Path(__file__).parents[4]
# Libraries of C and of the compiler itself are built first, on two busy cores in minutes.
_BUILD_TIMEOUT_S = 600


@pytest.fixture(scope="module", name="emulated")
def _emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver with all kernels as a static program for aarch64."""
    if shutil.which("qemu-aarch64") is None or platform.machine() == "aarch64":
        _skip("qemu-aarch64 must be there, on another machine than aarch64: apt-get install qemu-user")
    python = os.environ.get("DDIM_FLEET_TEST_ZIG_PYTHON", sys.executable)
    if python == sys.executable and find_spec("ziglang") is None:
        compiler = runpy.run_path(str(ROOT / "hatch_build.py"))["COMPILER"]
        _skip(f"a C++ compiler for aarch64 must be there: pip install {compiler}")
    program = tmp_path_factory.mktemp("aarch64") / "driver"
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC")]
    target = ["-target", "aarch64-linux-musl", "-mcpu=generic", "-static", "-nostdlib++", "-DDDIM_SOURCES=none"]
    files = [*sorted(map(str, SOURCES.glob("*.cc"))), str(DRIVER)]
    command = [python, "-m", "ziglang", "c++", *target, *flags, f"-I{SOURCES}", "-o", str(program), *files]
    subprocess.run(command, check=True, timeout=_BUILD_TIMEOUT_S)
    return program


def _skip(why: str) -> None:
    (pytest.fail if os.environ.get("DDIM_FLEET_TEST_ALL") else pytest.skip)(why)


@pytest.mark.parametrize("size", [(8, 8), (5, 7)], ids=str)
def test_another_machine_gives_equal_bits(emulated: Path, size: tuple[int, int]) -> None:
    """So machines of different kinds can share a run, and one can replay what the other made."""
    library = native.library_or_skip(native.SETS[-1])
    draw, (height, width) = Draw(6), size
    cases = {
        "resnet": (draw.resnet(2, (24, 8), 48, size, 4), (2, 48, *size)),
        "transformer": (draw.transformer(2, 32, size, 4, 2, (9, 24)), (2, 32, *size)),
        "convolution": (draw.convolution(2, 20, 12, size, groups=4), (2, 12, *size)),
        "upsample": (draw.convolution(2, 20, 12, size), (2, 12, 2 * height, 2 * width)),
        "downsample": (draw.convolution(2, 20, 12, size), (2, 12, (height + 1) // 2, (width + 1) // 2)),
        "time_embedding": (
            [
                *(draw.normal(4, 1, scale=500), [1], np.power(1e4, -np.arange(16) / 16), draw.weight(48, 32)),
                *(draw.normal(48), draw.weight(48, 48), draw.normal(48)),
            ],
            (4, 48),
        ),
    }
    for kernel, (values, shape) in cases.items():
        there = native.run_driver(["qemu-aarch64", str(emulated)], kernel, values, shape)
        assert there.tobytes() == native.call(library, kernel, values, shape).tobytes(), kernel
