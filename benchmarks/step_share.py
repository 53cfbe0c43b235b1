"""The share of a step that is not the denoiser: gather, guidance, update, noise, the engine, and admission.

The compiled step and the compiled denoiser alone take turns on inputs of the same shapes, and what a sample's admission
costs is shared among the steps between two of them in mixed work.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.figures import Target, at_most, report
from benchmarks.options import Options, read_options
from benchmarks.timing import median_seconds
from benchmarks.work import MIXED_STEPS, mixed
from ddim_core.sampling import device

TURNS_PER_REPEAT = 8
LARGER_SLOTS = 2


def main() -> None:
    """Print the share for the checkpoint, and for a larger denoiser of random weights."""
    options = read_options(__doc__)
    device.start(options.device, options.device_index, cpu_threads=options.threads)
    with device.quiet_import():
        from benchmarks.larger import LATENTS, LargerModel
        from benchmarks.steady_step import SteadyStep, load
    _measure("a step", load(options), options, at_most(0.03))
    larger = SteadyStep(LargerModel(), mixed(options.info, LARGER_SLOTS))
    _measure(f"a step on latents {'x'.join(map(str, LATENTS))}", larger, options, None)


def _measure(name: str, steady: Any, options: Options, target: Target | None) -> None:
    denoiser_s, step_s, admission_s = median_seconds(
        steady.denoise, steady.step, steady.admit, repeats=TURNS_PER_REPEAT * options.repeats
    )
    slots = len(steady.samples)
    admissions = slots / statistics.mean(MIXED_STEPS)
    whole_s = step_s + admissions * admission_s
    report(
        f"share of {name} that is not the denoiser",
        (whole_s - denoiser_s) / whole_s,
        target,
        because=f"step {step_s * 1e3:.2f} ms and {admissions:.2f} admissions of {admission_s * 1e3:.2f} ms, denoiser "
        f"alone {denoiser_s * 1e3:.2f} ms, {slots} slots",
    )


if __name__ == "__main__":
    main()
