"""``ddim-fleet verify`` of a run over ``sha256sum`` of the same files, on one core, all files in the page cache."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.bulk import write_committed_run
from benchmarks.figures import at_least, report
from benchmarks.finishing import finish
from benchmarks.fleet import fleet_command, run_on
from benchmarks.options import read_options
from benchmarks.timing import median_seconds

IMAGES = 100_000
IMAGES_PER_CHUNK = 1000
IMAGE_BYTES = 20_000


def main() -> None:
    """Print how fast it reads, as a share of what sha256sum reads."""
    options = read_options(__doc__)
    core = [min(os.sched_getaffinity(0))]
    with tempfile.TemporaryDirectory() as name:
        chunks = -(-options.scaled(IMAGES) // IMAGES_PER_CHUNK)
        out = write_committed_run(Path(name), chunks, images_per_chunk=IMAGES_PER_CHUNK, image_bytes=IMAGE_BYTES)
        finish(out, Path(name))
        files = sorted(map(str, [*out.glob("shards/*.tar"), *out.glob("parts/*.parquet")]))
        size_mib = sum(Path(file).stat().st_size for file in files) / 2**20
        verify_s, sha256sum_s = median_seconds(
            partial(run_on, core, *fleet_command("verify", str(out))),
            partial(run_on, core, "sha256sum", *files),
            repeats=options.repeats,
        )
    report(
        "speed of ddim-fleet verify over sha256sum",
        sha256sum_s / verify_s,
        at_least(0.8),
        because=f"{size_mib / verify_s:.0f} over {size_mib / sha256sum_s:.0f} MiB/s, {chunks * IMAGES_PER_CHUNK:,} "
        f"images of {IMAGE_BYTES / 1000:g} kB, one core",
    )


if __name__ == "__main__":
    main()
