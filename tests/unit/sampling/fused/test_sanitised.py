"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, with shapes drawn at random."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ddim_core.sampling.fused.sources import FLAGS, SOURCES
from tests.unit.sampling.fused import formulas, native
from tests.unit.sampling.fused.formulas import Draw

pytestmark = pytest.mark.slow

CASES = 40
# Norms over two or three channels divide by differences that may be small, and magnify rounding some hundred times.
TOLERANCE = 2e-3
_MARCH = {"x86_64": "x86-64-v3", "aarch64": "armv8-a"}


@pytest.fixture(scope="module", name="program")
def _program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver with all kernels, by the system's compiler, which brings the sanitizers."""
    native.library_or_skip(native.SETS[-1])  # this CPU must be able to run them
    if shutil.which("g++") is None:
        why = "g++ must be there: apt-get install g++"
        (pytest.fail if os.environ.get("DDIM_FLEET_TEST_ALL") else pytest.skip)(why)
    program = tmp_path_factory.mktemp("sanitised") / "driver"
    flags = [flag for flag in FLAGS if flag not in ("-shared", "-fPIC", "-O3")]
    flags += ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DDDIM_SOURCES=none"]
    files = [*sorted(map(str, SOURCES.glob("*.cc"))), str(Path(__file__).with_name("driver.cc"))]
    march = f"-march={_MARCH[platform.machine()]}"
    subprocess.run(["g++", march, *flags, f"-I{SOURCES}", "-o", str(program), *files], check=True, timeout=600)
    return program


@pytest.mark.parametrize(("channels", "outputs"), [(32, 16), (16, 32), (64, 32), (3, 64)])
def test_no_band_of_a_large_picture_leaves_its_memory(program: Path, channels: int, outputs: int) -> None:
    """A block's two convolutions have bands of different lengths, and share the memory for them."""
    draw, size = Draw(channels), (72, 128)
    values = draw.resnet(1, (channels, 0), outputs, size, 1, 0)
    y = native.run_driver([str(program)], "resnet", values, (1, outputs, *size))
    assert np.abs(y - formulas.resnet(values)).max() < TOLERANCE


@pytest.mark.parametrize("seed", range(CASES))
def test_no_shape_reads_or_writes_out_of_bounds(program: Path, seed: int) -> None:
    """Lanes, channels, sides, heads and tokens of any number; inputs end where their memory does."""
    random, draw = np.random.default_rng(seed), Draw(seed)
    lanes, height, width, groups, heads = (int(n) for n in random.integers(1, (4, 40, 40, 4, 4)))
    channels, skip, outputs = (groups * heads * int(n) for n in random.integers((1, 0, 1), 5))
    size = (height, width)
    cases = {
        "resnet": (draw.resnet(lanes, (channels, skip), outputs, size, groups, 16 * (seed % 3)), outputs, size),
        "transformer": (
            draw.transformer(lanes, channels, size, groups, heads, (int(random.integers(1, 90)), outputs)),
            channels,
            size,
        ),
        "convolution": (draw.convolution(lanes, channels, outputs, size, groups=groups), outputs, size),
        "upsample": (draw.convolution(lanes, channels, outputs, size), outputs, (2 * height, 2 * width)),
        "downsample": (
            draw.convolution(lanes, channels, outputs, size),
            outputs,
            ((height + 1) // 2, (width + 1) // 2),
        ),
    }
    kernel = list(cases)[seed % len(cases)]
    values, out_channels, out_size = cases[kernel]
    y = native.run_driver([str(program)], kernel, values, (lanes, out_channels, *out_size))
    formula = getattr(formulas, kernel, lambda values: formulas.convolution(values, kernel))
    assert np.abs(y - formula(values)).max() < TOLERANCE
