"""What an image costs that is alone: a step with one sample in all the slots over a step with one in each.

With one thread, because two samples on two threads would take the time of one.
"""

from __future__ import annotations

from benchmarks.figures import at_most, report
from benchmarks.options import read_options
from benchmarks.timing import median_seconds
from benchmarks.work import mixed
from ddim_core.sampling import device

TURNS_PER_REPEAT = 8


def main() -> None:
    """Print the share."""
    options = read_options(__doc__)
    device.start(options.device, options.device_index, cpu_threads=1)
    with device.quiet_import():
        from benchmarks.steady_step import SteadyStep
        from ddim_core.sampling.fused.operators import kernels_in_use
        from ddim_core.sampling.models.load import load_model
    model = load_model(options.info, options.settings.dtype_on_device)
    specs = mixed(options.info, options.slots)
    full, alone = SteadyStep(model, specs), SteadyStep(model, specs[:1], slots=options.slots)
    full_s, alone_s = median_seconds(full.step, alone.step, repeats=TURNS_PER_REPEAT * options.repeats)
    report(
        f"a step with one guided image in {options.slots} slots over a full step, one thread",
        alone_s / full_s,
        at_most(0.2),
        because=f"{alone_s * 1e3:.2f} ms over {full_s * 1e3:.2f} ms, kernels {kernels_in_use()}",
    )


if __name__ == "__main__":
    main()
