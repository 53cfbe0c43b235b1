"""Runs each benchmark in a process of its own, and prints its figures and in the end all of them as rows of a table."""

from __future__ import annotations

import argparse
import datetime
import os
import resource
import shlex
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import ROW
from benchmarks.options import add_options

BENCHMARKS = {
    "engine": "images/s of the sampling service over the pipelines of mindone and PyTorch",
    "engine_launch": "the same over mindone's where MindSpore launches kernels by threads, as its users get it",
    "mixed": "mixed work over batches that wait for their longest member; share of the slots in use",
    "step_share": "share of a step that is not the denoiser",
    "idle_lanes": "a step with one image over a step with all slots taken",
    "scheduler": "time of one DDIMScheduler.step, ours and mindone's",
    "steady": "what a steady step reads on the host, and graphs compiled after the warm-up",
    "same_bytes": "one request alone and in random mixes",
    "memory": "memory of many samples over that of few",
    "floor": "how near a step is to the time of its multiply-adds alone",
    "kernels": "a profile of the step by kind of kernel",
    "planning": "planning and queueing a million requests",
    "end_to_end": "images/s from submit to the manifest over the engine alone",
    "more_workers": "images/s of several workers over one",
    "verifying": "ddim-fleet verify over sha256sum",
    "inversion": "how well pictures are made again from their own noise, by steps",
    "finishing": "the manifest of a run of many chunks",
}

_HEAD = "| what | figure | target | from | command | date | other processes meanwhile |\n|---|---|---|---|---|---|---|"


def main() -> int:
    """Run the benchmarks named on the command line, or all; return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add_options(parser)
    for name, figure in BENCHMARKS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=figure)
    told = vars(parser.parse_args())
    chosen = [name for name in BENCHMARKS if told[name]] or list(BENCHMARKS)
    options = [
        argument
        for name, value in told.items()
        if name not in BENCHMARKS and value != parser.get_default(name)
        for argument in (f"--{name}", str(value))
    ]
    print(f"{len(os.sched_getaffinity(0))} cores, load average before the start {os.getloadavg()[0]:.1f}")
    rows: list[str] = []
    failed = [name for name in chosen if not _run(name, options, rows)]
    print(f"\n{_HEAD}")
    print("\n".join(rows))
    for name in failed:
        print(f"{name} failed", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, options: list[str], rows: list[str]) -> bool:
    """Run one benchmark, pass on what it says, add its rows; return whether it ended well."""
    print(f"\n{name}: {BENCHMARKS[name]}", flush=True)
    busy = _Busy()
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", *options]
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(ROW):
                said.append(line.rstrip())
            else:
                print(line, end="", flush=True)
    beside = f"{busy.by_others():.0%} of the cores"
    print(f"  other processes took {beside} meanwhile", flush=True)
    today = datetime.datetime.now(datetime.timezone.utc).date()
    again = shlex.join(["python", "-m", "benchmarks", f"--{name.replace('_', '-')}", *options])
    rows += [f"{line} `{again}` | {today} | {beside} |" for line in said]
    return process.returncode == 0


class _Busy:
    """How much of the machine's cores was taken by processes that are not ours, since this was made."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._others_s = _busy_s() - _own_s()

    def by_others(self) -> float:
        """Return the share in [0, 1]."""
        passed_s = (time.monotonic() - self._began_s) * (os.cpu_count() or 1)
        return max(0.0, _busy_s() - _own_s() - self._others_s) / passed_s


def _own_s() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _busy_s() -> float:
    """Return the seconds that all cores together have worked since the machine started."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split()[1:11])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
