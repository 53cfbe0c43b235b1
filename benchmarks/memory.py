"""Memory of a process that makes many samples over that of one that makes few, in processes of their own.

The peak may be that of compiling, so what is resident in the end is printed too: a leak shows there first.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections import deque
from pathlib import Path

from benchmarks.figures import at_most, report
from benchmarks.options import Options, read_options
from benchmarks.work import alike
from ddim_core.sampling.service import SamplingService

FEW, MANY = 200, 2000
STEPS = 2
IN_FLIGHT = 64


def main() -> None:
    """Print both ratios."""
    options = read_options(__doc__)
    few_samples, many_samples = options.scaled(FEW), options.scaled(MANY)
    few_peak, few = _in_a_process(few_samples, options)
    many_peak, many = _in_a_process(many_samples, options)
    what = f"of {many_samples} samples over that of {few_samples}"
    because = f"{STEPS} steps, {options.slots} slots"
    report(
        f"peak memory {what}",
        many_peak / few_peak,
        at_most(1.05),
        because=f"{many_peak:.0f} over {few_peak:.0f} MiB, {because}",
    )
    report(f"resident memory after the last {what}", many / few, because=f"{many:.0f} over {few:.0f} MiB, {because}")


def _in_a_process(count: int, options: Options) -> tuple[float, float]:
    # Spawned, not forked: a process must not inherit MindSpore.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_and_resident_mib, (count, options))


def _peak_and_resident_mib(count: int, options: Options) -> tuple[float, float]:
    with SamplingService(options.settings) as service:
        _make_and_forget(service, count)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak_kib / 2**10, pages * resource.getpagesize() / 2**20


def _make_and_forget(service: SamplingService, count: int) -> None:
    futures = deque(service.submit(spec) for spec in alike(service.info, IN_FLIGHT, steps=STEPS))
    for number in range(IN_FLIGHT, count):
        futures.popleft().result()
        futures.append(service.submit(*alike(service.info, 1, steps=STEPS, first=number)))
    for future in futures:
        future.result()


if __name__ == "__main__":
    main()
