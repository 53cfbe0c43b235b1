"""A profile of the step by kind of kernel, from MindSpore's own profiler: milliseconds a step, and share.

The profiler times each kernel, which makes a step slower; what a step takes without it is printed beside.
"""

from __future__ import annotations

import contextlib
import csv
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import report
from benchmarks.options import Options, read_options
from benchmarks.timing import median_seconds
from ddim_core.sampling import device

STEPS_PER_REPEAT = 4
SHOWN = 12

# What the profiler leaves: the file, the columns of kind and of total time, and milliseconds in its unit. The second
# line is from MindSpore's documentation and was not run.
_FILES = {
    "CPU": ("cpu_op_type_info_*.csv", "op_type", "total_compute_time", 1.0),
    "Ascend": ("op_statistic.csv", "OP Type", "Total Time(us)", 1e-3),
}


def main() -> None:
    """Print the kinds of kernels that take most of a step."""
    options = read_options(__doc__)
    device.start(options.device, options.device_index, cpu_threads=options.threads)
    with device.quiet_import():
        from benchmarks.steady_step import SteadyStep, load
    steady: SteadyStep = load(options)
    steps = STEPS_PER_REPEAT * options.repeats
    [step_s] = median_seconds(steady.step, repeats=steps)
    with tempfile.TemporaryDirectory() as folder:
        with _silence():
            _profile(steady, steps, options, folder)
        by_kind = _read(Path(folder), options.device, steps)
    kernels_ms = sum(by_kind.values())
    shown = sorted(by_kind.items(), key=lambda item: -item[1])[:SHOWN]
    for kind, milliseconds in shown:
        print(f"  {kind:24} {milliseconds:8.2f} ms a step  {milliseconds / kernels_ms:6.1%}")
    print(f"  {'others':24} {kernels_ms - sum(ms for _, ms in shown):8.2f} ms a step")
    largest = ", ".join(f"{kind} {milliseconds / kernels_ms:.0%}" for kind, milliseconds in shown[:6])
    report(
        "kernels' share of a step, the rest being launches and the host",
        kernels_ms / (step_s * 1e3),
        because=f"{kernels_ms:.1f} ms under the profiler of {step_s * 1e3:.1f} ms without; {largest}",
    )


def _profile(steady: object, steps: int, options: Options, folder: str) -> None:
    import mindspore as ms
    from mindspore.profiler import ProfilerActivity, tensorboard_trace_handler

    on_cpu = options.device == "CPU"
    activities = [ProfilerActivity.CPU] if on_cpu else [ProfilerActivity.CPU, ProfilerActivity.NPU]
    handler = tensorboard_trace_handler(folder, analyse_flag=not on_cpu)
    with ms.profiler.profile(activities=activities, on_trace_ready=handler) as profiler:
        for _ in range(steps):
            steady.step()
            profiler.step()


def _read(folder: Path, kind: str, steps: int) -> dict[str, float]:
    """Return milliseconds a step by kind of kernel."""
    name, column, total, unit_ms = _FILES[kind]
    by_kind: dict[str, float] = {}
    for path in folder.rglob(name):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                by_kind[row[column]] = by_kind.get(row[column], 0.0) + float(row[total]) * unit_ms / steps
    return by_kind


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what the profiler and its processes print, progress bars among it, off the terminal."""
    sys.stdout.flush()
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


if __name__ == "__main__":
    main()
