"""Finishing a run of many chunks: from ``ddim-fleet resume`` to the manifest that a worker writes, and its memory."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.bulk import write_committed_run
from benchmarks.figures import at_most, report
from benchmarks.fleet import fleet_command, peak_of, redis_running, run_on, wait_until_whole, workers_running
from benchmarks.options import read_options
from ddim_core.storage.run_folder import MANIFEST

CHUNKS = 100_000
IMAGES_PER_CHUNK = 4


def main() -> None:
    """Print time and memory."""
    options = read_options(__doc__)
    with tempfile.TemporaryDirectory() as name:
        out = write_committed_run(Path(name), options.scaled(CHUNKS), images_per_chunk=IMAGES_PER_CHUNK)
        runs = [finish(out, Path(name)) for _ in range(options.repeats)]
    seconds, peaks = zip(*runs, strict=True)
    what = f"finishing a run of {options.scaled(CHUNKS):,} chunks of {IMAGES_PER_CHUNK} images"
    because = f"median of {options.repeats}, ddim-fleet resume included"
    report(f"{what}: seconds", statistics.median(seconds), at_most(120), because=because)
    report(f"{what}: peak MiB of the worker", statistics.median(peaks), at_most(500), because=because)


def finish(out: Path, folder: Path) -> tuple[float, float]:
    """Have a worker write the manifest anew; return the seconds that took, and the worker's peak memory in MiB."""
    (out / MANIFEST).unlink(missing_ok=True)
    cores = os.sched_getaffinity(0)
    with redis_running(folder) as url, workers_running("sim:1", url, folder, cores=cores) as [pid]:
        began = time.perf_counter()
        run_on(cores, *fleet_command("resume", str(out), "--broker", url))
        wait_until_whole(out)
        return time.perf_counter() - began, peak_of(pid)


if __name__ == "__main__":
    main()
