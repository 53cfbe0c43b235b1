"""How near a step is to the time that its multiply-adds alone take at the best rate of this machine.

The multiply-adds are counted from the shapes that the denoiser's layers see, and the rate is that of one large matrix
product or convolution in MindSpore, whichever is faster, at the same number of threads.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.figures import report
from benchmarks.options import Options, read_options
from benchmarks.timing import median_seconds
from ddim_core.sampling import device

STEPS_PER_REPEAT = 10
# Large enough to keep the units busy: 1024 takes 10 ms of one core.
_SIDE = {"CPU": 1024, "Ascend": 8192}
_CHANNELS = {"CPU": 128, "Ascend": 512}
_PIXELS = 64
_BATCH = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """What one process found, with its number of threads."""

    step_s: float
    multiply_adds: int
    """Of one step, all lanes."""
    matmul_rate: float
    """Multiply-adds a second."""
    convolution_rate: float


def main() -> None:
    """Print the share, for one thread and for all."""
    options = read_options(__doc__)
    for threads in sorted({1, options.threads}) if options.device == "CPU" else [options.threads]:
        # Spawned: a process can set its number of threads once.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found: Measured = pool.apply(_measure, (replace(options, threads=threads),))
        floor_s = found.multiply_adds / max(found.matmul_rate, found.convolution_rate)
        report(
            f"share of a step that its multiply-adds take at the best rate, threads: {threads}",
            floor_s / found.step_s,
            because=f"{found.multiply_adds / 1e9:.2f} G multiply-adds in {found.step_s * 1e3:.1f} ms; matrix products "
            f"{found.matmul_rate / 1e9:.0f}, convolutions {found.convolution_rate / 1e9:.0f} G/s: floor "
            f"{floor_s * 1e3:.1f} ms",
        )


def _measure(options: Options) -> Measured:
    device.start(options.device, options.device_index, cpu_threads=options.threads)
    with device.quiet_import():
        from mindspore import ops

        from benchmarks.steady_step import load
    steady = load(options)
    multiply_adds = count_multiply_adds(steady.model.denoiser, steady.denoiser_inputs())
    side, channels = _SIDE[options.device], _CHANNELS[options.device]
    draw = np.random.default_rng(0).standard_normal
    dtype = options.settings.dtype_on_device
    matmul = _synchronized(ops.matmul, draw((side, side)), draw((side, side)), dtype=dtype)
    image, weight = draw((_BATCH, channels, _PIXELS, _PIXELS)), draw((channels, channels, 3, 3))
    convolve = _synchronized(lambda x, w: ops.conv2d(x, w, None, 1, "pad", 1), image, weight, dtype=dtype)
    step_s, matmul_s, convolution_s = median_seconds(
        steady.step, matmul, convolve, repeats=STEPS_PER_REPEAT * options.repeats
    )
    return Measured(step_s, multiply_adds, side**3 / matmul_s, image.size * channels * 9 / convolution_s)


def count_multiply_adds(denoiser: Any, inputs: tuple[Any, ...]) -> int:
    """Return how many multiply-adds the layers of a denoiser need for these inputs.

    A layer with a weight [out, ...] needs one for each output value and each weight that it is made of, an attention
    q k^T and its product with v. Norms, activations and sums are not counted: a floor may leave out, not add.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = [cell.register_forward_hook(_note(shapes, name)) for name, cell in denoiser.cells_and_names()]
    denoiser(*inputs)
    for hook in hooks:
        hook.remove()
    total = 0
    for name, cell in denoiser.cells_and_names():
        weight = getattr(cell, "weight", None)
        if name in shapes and weight is not None and weight.ndim > 1:
            total += int(np.prod(shapes[name])) * int(np.prod(weight.shape[1:]))
        query, key = shapes.get(f"{name}.to_q"), shapes.get(f"{name}.to_k")
        if query and key:
            total += 2 * int(np.prod(query)) * key[1]
    return total


def _note(shapes: dict[str, tuple[int, ...]], name: str) -> Callable[..., None]:
    def note(_cell: Any, _inputs: Any, output: Any) -> None:
        if hasattr(output, "shape"):
            shapes[name] = output.shape

    return note


def _synchronized(function: Callable[..., Any], *arrays: Any, dtype: str) -> Callable[[], None]:
    import mindspore as ms

    from benchmarks.steady_step import synchronize

    tensors = [ms.Tensor(array.astype(np.float32)).astype(getattr(ms, dtype)) for array in arrays]

    def run() -> None:
        function(*tensors)
        synchronize()

    return run


if __name__ == "__main__":
    main()
