"""Time of one scheduler step on latents of Stable Diffusion's shape, ours and mindone's, t given as a Tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.figures import at_most, report
from benchmarks.options import read_options
from benchmarks.timing import median_seconds
from ddim_core.sampling import device

SHAPES = {"8x4x16x16": (8, 4, 16, 16), "8x4x64x64": (8, 4, 64, 64)}


def main() -> None:
    """Print both times and their ratio, for small latents and for those of a 512 x 512 picture."""
    options = read_options(__doc__)
    device.start(options.device, options.device_index, cpu_threads=options.threads)
    with device.quiet_import():
        from mindone.diffusers import DDIMScheduler as MindoneScheduler

        from ddim_core.sampling.scheduler import DDIMScheduler
    for name, shape in SHAPES.items():
        classes = (DDIMScheduler, MindoneScheduler)
        runs = [_steps_with(scheduler_class, shape, options.steps) for scheduler_class in classes]
        ours, theirs = median_seconds(*runs, repeats=options.repeats)
        report(
            f"DDIMScheduler.step over mindone's, time per call, latents {name}",
            ours / theirs,
            at_most(0.1),
            because=f"{ours / options.steps * 1e3:.2f} over {theirs / options.steps * 1e3:.2f} ms",
        )


def _steps_with(scheduler_class: Any, shape: tuple[int, ...], steps: int) -> Callable[[], object]:
    from mindspore import Tensor

    scheduler = scheduler_class(prediction_type="v_prediction", clip_sample=False)
    scheduler.set_timesteps(steps)
    x = Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))

    def run() -> object:
        latents = x
        for t in scheduler.timesteps:
            latents = scheduler.step(x, t, latents, return_dict=False)[0]
        return latents.asnumpy()

    return run


if __name__ == "__main__":
    main()
