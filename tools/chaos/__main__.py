"""Break a small fleet at random moments and audit what is left: ``python -m tools.chaos --scenario kills --seed 7``."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tools.chaos.figures import Figure, table
from tools.chaos.scenarios import fuzz, kills, poison, redis_loss, rolling, soak, store
from tools.chaos.work import Options

EXIT_MET, EXIT_FAILED, EXIT_MISSED = 0, 2, 3

FULL: dict[str, tuple[Callable[[Options], list[Figure]], int, int]] = {
    "kills": (kills.run, 2000, 100),
    "redis": (redis_loss.run, 2000, 10),
    "store": (store.run, 1000, 30),
    "poison": (poison.run, 1000, 20),
    "rolling": (rolling.run, 1000, 4),
    "fuzz": (fuzz.run, 0, 10_000),
    "soak": (soak.run, 1_000_000, 0),
}
"""Each scenario with its images and its faults in full."""


def main() -> int:
    """Run the scenarios of the command line; return 0 if all targets are met, 3 if not, 2 if the rig itself failed."""
    given = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))  # so that what was started is stopped
    names = list(FULL) if given.scenario == "all" else [given.scenario]
    folder = Path(tempfile.mkdtemp(prefix="ddim-fleet-chaos-"))
    missed = False
    try:
        for name in names:
            figures = _run(name, given, folder / name)
            missed |= not all(figure.met for figure in figures)
    except (TimeoutError, RuntimeError, OSError) as exc:
        print(f"chaos: {exc}; logs are in {folder}", file=sys.stderr)
        return EXIT_FAILED
    if missed or given.keep:
        print(f"all files are in {folder}")
    else:
        shutil.rmtree(folder)
    return EXIT_MISSED if missed else EXIT_MET


def _run(name: str, given: argparse.Namespace, folder: Path) -> list[Figure]:
    scenario, images, faults = FULL[name]
    options = Options(
        folder=folder,
        seed=given.seed,
        images=given.images or images,
        faults=faults if given.faults is None else given.faults,
        pause_s=given.pause,
        duration_s=given.duration,
        timeout_s=given.timeout,
        devices=given.devices,
    )
    chosen = f"--scenario {name} --seed {options.seed} --images {options.images} --faults {options.faults}"
    print(f"{chosen} --pause {options.pause_s:g} --duration {options.duration_s:g}", flush=True)
    began = time.monotonic()
    figures = scenario(options)
    print(f"{table(figures)}\n({time.monotonic() - began:.0f} s)\n", flush=True)
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos", description="Break a small fleet and audit what is left.")
    parser.add_argument("--scenario", choices=[*FULL, "all"], default="all")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of what breaks when; printed")
    parser.add_argument("--images", type=int, help="of a run, of all runs of the soak; default: the scenario in full")
    parser.add_argument("--faults", type=int, help="kills, restarts, poison of each kind, per cent, damaged inputs")
    parser.add_argument(
        "--pause", type=float, default=30.0, help="seconds that Redis is frozen; lost four times as long"
    )
    parser.add_argument("--duration", type=float, default=7200.0, help="seconds of the soak")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds after which a run counts as stuck")
    parser.add_argument("--devices", help="of each host in kills, redis and rolling; cpu:1 for the small checkpoint")
    parser.add_argument("--keep", action="store_true", help="keep all files")
    return parser


if __name__ == "__main__":
    sys.exit(main())
