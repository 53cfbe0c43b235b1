"""Time of one scheduler step on latents of Stable Diffusion's shape, ours and mindone's, t given as a Tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.timing import median_seconds
from ddim_core.sampling import device

STEPS = 50
LATENTS = (8, 4, 16, 16)


def main() -> None:
    """Print both times and their ratio."""
    device.start("CPU")
    from mindone.diffusers import DDIMScheduler as MindoneScheduler

    from ddim_core.sampling.scheduler import DDIMScheduler

    ours, theirs = median_seconds(_steps_with(DDIMScheduler), _steps_with(MindoneScheduler))
    ours_ms, theirs_ms = ours / STEPS * 1e3, theirs / STEPS * 1e3
    print(f"  ours {ours_ms:.2f} ms, mindone {theirs_ms:.2f} ms a step: {theirs / ours:.1f} times as fast")


def _steps_with(scheduler_class: Any) -> Callable[[], object]:
    from mindspore import Tensor

    scheduler = scheduler_class(prediction_type="v_prediction", clip_sample=False)
    scheduler.set_timesteps(STEPS)
    x = Tensor(np.random.default_rng(0).standard_normal(LATENTS).astype(np.float32))

    def run() -> object:
        latents = x
        for t in scheduler.timesteps:
            latents = scheduler.step(x, t, latents, return_dict=False)[0]
        return latents.asnumpy()

    return run


if __name__ == "__main__":
    main()
