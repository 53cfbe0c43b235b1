"""Images per second through Redis, worker, encoder and store, over the engine alone on the same samples.

The worker has the engine alone's slots, threads and cores; the two take turns.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bulk import make_by_fleet, specs_of
from benchmarks.figures import at_least, report
from benchmarks.fleet import redis_running, workers_running
from benchmarks.options import read_options
from benchmarks.timing import median_seconds
from benchmarks.work import make
from ddim_core.sampling.service import SamplingService

IMAGES = 320
IMAGES_PER_CHUNK = 16


def main() -> None:
    """Print both speeds and their ratio."""
    options = read_options(__doc__)
    cores = os.sched_getaffinity(0)
    images = options.scaled(IMAGES)
    with tempfile.TemporaryDirectory() as name, redis_running(Path(name)) as url:
        folder, runs = Path(name), itertools.count()

        def by_fleet() -> None:
            out = folder / f"run-{next(runs)}"
            make_by_fleet(url, out, images, steps=options.steps, images_per_chunk=IMAGES_PER_CHUNK)

        slots = ("--slots", str(options.slots))
        with workers_running("cpu:1", url, folder, *slots, cores=cores), SamplingService(options.settings) as service:
            fleet_s, engine_s = median_seconds(by_fleet, _alone(service, folder / "run-0"), repeats=options.repeats)
    report(
        "images/s through Redis, worker, encoder and store over the engine alone",
        engine_s / fleet_s,
        at_least(0.97),
        because=f"{images / fleet_s:.2f} over {images / engine_s:.2f} images/s, {images} images of {options.steps} "
        f"steps in chunks of {IMAGES_PER_CHUNK}, from submit to the manifest",
    )


def _alone(service: SamplingService, run: Path) -> Callable[[], object]:
    """Return what makes the samples of a run, which is there when it is first called."""
    return lambda: make(service, specs_of(run))


if __name__ == "__main__":
    main()
