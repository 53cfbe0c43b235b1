"""Runs each benchmark in a process of its own and prints one line a figure."""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys

BENCHMARKS = {
    "scheduler": "time of one DDIMScheduler.step, ours and mindone's",
    "engine": "images/s of the sampling service and of mindone's StableDiffusionPipeline",
}


def main() -> int:
    """Run the benchmarks named on the command line, or all; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    for name, figure in BENCHMARKS.items():
        parser.add_argument(f"--{name}", action="store_true", help=figure)
    options = vars(parser.parse_args())
    chosen = [name for name in BENCHMARKS if options[name]] or list(BENCHMARKS)
    load = os.getloadavg()[0]
    today = datetime.datetime.now(datetime.timezone.utc).date()
    print(f"{today}, {len(os.sched_getaffinity(0))} cores, load average before the start {load:.1f}")
    failed = 0
    for name in chosen:
        print(f"\n{name}: {BENCHMARKS[name]}", flush=True)
        failed |= subprocess.run([sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}"], check=False).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
