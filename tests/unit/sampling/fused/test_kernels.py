"""Every kernel against its formula in float64, whatever the shapes; and that its bits depend on the lane alone."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ddim_core.sampling.fused.library import KERNEL_SET
from tests.unit.sampling.fused import formulas, native
from tests.unit.sampling.fused.formulas import REST, Draw

Array = np.ndarray[Any, Any]

# Sums of up to some thousand float32 products of size 1, and norms that divide by the spread of what came before.
TOLERANCE = 2e-5

SIZES = [(8, 8), (4, 4), (1, 1), (2, 3), (9, 9), (5, 24), (16, 16), (1, 70), (33, 2)]


@pytest.fixture(params=native.SETS, name="library")
def _library(request: pytest.FixtureRequest) -> Iterator[ctypes.CDLL]:
    library = native.library_or_skip(request.param)
    library.ddim_use_threads(2)
    yield library
    library.ddim_use_threads(1)


def shapes(values: list[Any], outputs: int, size: tuple[int, int]) -> tuple[int, ...]:
    return (len(values[0]), outputs, *size)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_resnet_block_is_its_formula(library: ctypes.CDLL, size: tuple[int, int]) -> None:
    """With and without time, shortcut and skip connection."""
    draw = Draw(sum(size))
    for channels, outputs, time in (((32, 0), 32, 32), ((24, 40), 16, 48), ((8, 0), 20, 0), ((4, 4), 8, 16)):
        values = draw.resnet(3, channels, outputs, size, 4, time)
        y = native.call(library, "resnet", values, (3, outputs, *size))
        assert np.abs(y - formulas.resnet(values)).max() < TOLERANCE


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_transformer_is_its_formula(library: ctypes.CDLL, size: tuple[int, int]) -> None:
    """For any number of heads, tokens of text and width of it; long texts have more tokens than there are pixels."""
    draw = Draw(sum(size))
    for channels, heads, text in ((16, 1, (1, 8)), (24, 3, (77, 20)), (32, 4, (154, 32))):
        values = draw.transformer(2, channels, size, 4, heads, text)
        y = native.call(library, "transformer", values, (2, channels, *size))
        assert np.abs(y - formulas.transformer(values)).max() < TOLERANCE


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_convolutions_are_their_formulas(library: ctypes.CDLL, size: tuple[int, int]) -> None:
    """Plain, after a norm, with stride 2 from either corner, and of doubled pixels."""
    draw, (height, width) = Draw(sum(size)), size
    sizes = {
        "convolution": size,
        "upsample": (2 * height, 2 * width),
        "downsample": ((height + 1) // 2, (width + 1) // 2),
        "downsample_corner": (height // 2, width // 2),
    }
    for channels, outputs in ((3, 5), (16, 3), (20, 36)):
        for kernel, out_size in sizes.items():
            values = draw.convolution(2, channels, outputs, size, groups=1 if kernel == "convolution" else 0)
            y = native.call(library, kernel, values, (2, outputs, *out_size))
            if y.size:
                assert np.abs(y - formulas.convolution(values, kernel)).max() < TOLERANCE


def test_a_large_picture_is_worked_on_in_bands(library: ctypes.CDLL) -> None:
    """Of a width that no tile divides; a band ends within a row."""
    draw = Draw(1)
    for channels, size in ((256, (24, 37)), (64, (80, 100))):
        values = draw.convolution(1, channels, 4, size)
        y = native.call(library, "convolution", values, (1, 4, *size))
        assert np.abs(y - formulas.convolution(values)).max() < TOLERANCE


def test_a_time_embedding_is_its_formula(library: ctypes.CDLL) -> None:
    """The frequencies are float32 nearest to those in float64, and so is their product with t, as everywhere."""
    draw, half = Draw(2), 32
    t = np.array([[0], [1], [37.5], [999], [12345]], np.float32)
    frequencies = np.power(10000.0, -np.arange(half) / half).astype(np.float32)
    for cosine_first in (0, 1):
        weights = [draw.weight(48, 64), draw.normal(48), draw.weight(48, 48), draw.normal(48)]
        y = native.call(library, "time_embedding", [t, [cosine_first], frequencies, *weights], (5, 48))
        angles = (t * frequencies).astype(np.float64)
        waves = [np.cos(angles), np.sin(angles)] if cosine_first else [np.sin(angles), np.cos(angles)]
        w1, b1, w2, b2 = formulas.exact(weights)
        expected = formulas.silu(np.concatenate(waves, 1) @ w1.T + b1) @ w2.T + b2
        assert np.abs(y - expected).max() < TOLERANCE


KERNELS = {
    "resnet": lambda draw: (draw.resnet(6, (24, 8), 32, (5, 7), 4), (32, 5, 7), (0, 2, 3)),
    "transformer": lambda draw: (draw.transformer(6, 32, (5, 7), 4, 2, (9, 24)), (32, 5, 7), (0, 2)),
    "convolution": lambda draw: (draw.convolution(6, 20, 12, (9, 7), groups=4), (12, 9, 7), (0,)),
}


@pytest.mark.parametrize("kernel", KERNELS)
def test_bits_depend_neither_on_lanes_nor_threads_nor_neighbours(library: ctypes.CDLL, kernel: str) -> None:
    """So an image does not depend on how many there are beside it, or what they are: also if they are no numbers."""
    values, shape, per_lane = KERNELS[kernel](Draw(3))
    expected = native.call(library, kernel, values, (6, *shape))
    for threads in (1, 2, 3, 9):
        library.ddim_use_threads(threads)
        assert native.call(library, kernel, values, (6, *shape)).tobytes() == expected.tobytes()
    for count in (1, 2, 5):
        few = [each[1 : 1 + count] if i in per_lane else each for i, each in enumerate(values)]
        y = native.call(library, kernel, few, (count, *shape))
        assert y.tobytes() == expected[1 : 1 + count].tobytes()
    for bad in (np.nan, np.inf, -np.inf, 3e38):
        broken = values[0].copy()
        broken[2, 1, 3, 3] = bad
        y = native.call(library, kernel, [broken, *values[1:]], (6, *shape))
        assert np.delete(y, 2, 0).tobytes() == np.delete(expected, 2, 0).tobytes()
        assert bad == 3e38 or not np.isfinite(y[2]).all()  # a norm brings large numbers back


@pytest.mark.parametrize("kernel", KERNELS)
def test_instruction_sets_give_equal_bits(kernel: str) -> None:
    """Machines of a fleet differ in what their CPUs have, and its images must not."""
    libraries = [native.library_or_skip(name) for name in native.SETS]
    results = set()
    for seed in range(20):
        values, shape, _ = KERNELS[kernel](Draw(seed))
        results = {native.call(library, kernel, values, (6, *shape)).tobytes() for library in libraries}
        assert len(results) == 1


GOLDEN = {
    "fused-1": {"resnet": "5301276967aadf26", "transformer": "ee7410435e943353", "convolution": "a3b5fa4028b52193"},
}
"""The beginnings of the SHA-256 of what each kernel gives for ``Draw(0)``; bits are those of the sets' names."""


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_bits_are_those_of_the_kernel_sets_name(library: ctypes.CDLL, kernel: str) -> None:
    """Rows name the set: with other bits it needs another name, ``KERNEL_SET``, and new values here."""
    values, shape, _ = KERNELS[kernel](Draw(0))
    y = native.call(library, kernel, values, (6, *shape))
    assert hashlib.sha256(y.tobytes()).hexdigest()[:16] == GOLDEN[KERNEL_SET][kernel]


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_lane_at_rest_is_passed_over(library: ctypes.CDLL, kernel: str) -> None:
    """Its mark goes on, its output is left alone, and the others' bytes are the same."""
    values, shape, _ = KERNELS[kernel](Draw(4))
    expected = native.call(library, kernel, values, (6, *shape))
    resting = values[0].copy()
    resting[[0, 3], 0, 0, 0] = REST
    out = np.full((6, *shape), 7, np.float32)
    assert native.status(library, kernel, [resting, *values[1:]], out) == 0
    busy = [1, 2, 4, 5]
    assert out[busy].tobytes() == expected[busy].tobytes()
    for lane in (0, 3):
        flat = out[lane].ravel()
        assert flat[0].tobytes() == REST.tobytes()
        assert (flat[1:] == 7).all()


def test_what_does_not_fit_is_refused(library: ctypes.CDLL) -> None:
    """Not read past its end: MindSpore raises what a kernel returns."""
    out = np.zeros((1, 1, 1, 1), np.float32)
    assert native.status(library, "resnet", [out, out], out) == 22


def test_a_failed_allocation_is_told(library: ctypes.CDLL) -> None:
    """It becomes this project's error for want of memory, and the next call works again."""
    tiny = np.zeros((1, 1, 1, 1), np.float32)
    values = [tiny, [0, 1], tiny, tiny, tiny, tiny]
    # Shapes that no machine has memory for; nothing is read before the memory is there.
    huge = np.lib.stride_tricks.as_strided(tiny, (1, 1, 2**24, 2**24), (0, 0, 0, 0))
    assert _status_of_shape(library, values, huge.shape) == 12
    draw = Draw(5)
    values = draw.convolution(1, 3, 3, (4, 4))
    assert np.isfinite(native.call(library, "convolution", values, (1, 3, 4, 4))).all()


def _status_of_shape(library: ctypes.CDLL, values: list[Any], shape: tuple[int, ...]) -> int:
    tensors = [np.ascontiguousarray(each, np.float32) for each in [*values, values[0]]]
    sizes = [(ctypes.c_int64 * 4)(*(shape if i in (0, 6) else (1, 1, 1, 1))) for i in range(7)]
    pointers = (ctypes.c_void_p * 7)(*(each.ctypes.data for each in tensors))
    addresses = (ctypes.c_void_p * 7)(*(ctypes.addressof(size) for size in sizes))
    return int(library.ddim_convolution(7, pointers, None, addresses, None, None, None))
