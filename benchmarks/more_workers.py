"""How images/s grow with workers: two on a core each over one on a core, and 32 simulated devices over one.

Every fleet has a Redis of its own and gets as many images a worker; the fleets take turns.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bulk import make_by_fleet
from benchmarks.figures import Target, at_least, report
from benchmarks.fleet import redis_running, workers_running
from benchmarks.options import Options, read_options
from benchmarks.timing import median_seconds

IMAGES_PER_CHUNK = 8
REAL_IMAGES, SIMULATED_IMAGES = 96, 320
"""A worker. Chunks do not divide evenly among workers, so there must be many to each."""
REAL_WORKERS, SIMULATED_WORKERS = 2, 32
STEP_MS = 50
"""Of a simulated device: faster than an NPU's step for a picture of 512 x 512, so that more is asked of the rest."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Workers, and what they have to do."""

    devices: str
    workers: int
    images: int
    cores: list[int]


def main() -> None:
    """Print both gains."""
    options = read_options(__doc__)
    cores = sorted(os.sched_getaffinity(0))
    real, simulated = options.scaled(REAL_IMAGES), options.scaled(SIMULATED_IMAGES)
    one, two = (Fleet(f"cpu:{n}", n, n * real, cores[:n]) for n in (1, REAL_WORKERS))
    _compare("workers on a core each", one, two, at_least(1.9), options)
    one, many = (Fleet(f"sim:{n}:{STEP_MS}", n, n * simulated, cores) for n in (1, SIMULATED_WORKERS))
    _compare(f"simulated workers of {STEP_MS} ms a step", one, many, at_least(0.95 * SIMULATED_WORKERS), options)


def _compare(what: str, one: Fleet, more: Fleet, target: Target, options: Options) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        turns = [_started(fleet, stack, Path(folder), options) for fleet in (one, more)]
        one_s, more_s = median_seconds(*turns, repeats=options.repeats)
    one_rate, more_rate = one.images / one_s, more.images / more_s
    report(
        f"images/s of {more.workers} {what} over one",
        more_rate / one_rate,
        target,
        because=f"{more_rate:.2f} over {one_rate:.2f} images/s, {one.images} images a worker, {options.steps} steps, "
        f"chunks of {IMAGES_PER_CHUNK}",
    )


def _started(fleet: Fleet, stack: ExitStack, folder: Path, options: Options) -> Callable[[], None]:
    """Return what has a fleet, which is then ready, make one more run."""
    url = stack.enter_context(redis_running(folder))
    slots = ("--slots", str(options.slots))
    stack.enter_context(workers_running(fleet.devices, url, folder, *slots, cores=fleet.cores))
    runs = itertools.count()

    def make() -> None:
        out = folder / f"{fleet.devices.replace(':', '-')}-{next(runs)}"
        make_by_fleet(url, out, fleet.images, steps=options.steps, images_per_chunk=IMAGES_PER_CHUNK)

    return make


if __name__ == "__main__":
    main()
