"""What every benchmark is told on its command line: which device, which checkpoint, how large, how often."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from ddim_core.checkpoints import CheckpointInfo, describe, resolve
from ddim_core.sampling.settings import DEVICES, SamplingSettings


@dataclass(frozen=True, slots=True)
class Options:
    """The command line of one benchmark."""

    device: str
    """``CPU`` or ``Ascend``."""
    device_index: int
    model: Path
    slots: int
    steps: int
    repeats: int
    threads: int
    """Of the CPU's kernels, on both sides of a comparison."""
    scale: float
    """What numbers of samples, images and chunks are multiplied with; 1 but for trying a benchmark out."""

    @property
    def settings(self) -> SamplingSettings:
        """What the sampling service is told."""
        return SamplingSettings(
            checkpoint=self.model,
            device=self.device,
            device_index=self.device_index,
            slots=self.slots,
            cpu_threads=self.threads,
        )

    @property
    def info(self) -> CheckpointInfo:
        """What the checkpoint says about itself."""
        return describe(self.model)

    def scaled(self, count: int) -> int:
        """Return a number of samples, images or chunks as it is to be measured."""
        return max(1, round(count * self.scale))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks share."""
    parser.add_argument("--device", default="CPU", help=f"{' or '.join(DEVICES)}, with :index; default %(default)s")
    parser.add_argument("--model", default="shapes", help="checkpoint folder, or the one that ships: %(default)s")
    parser.add_argument("--slots", type=int, default=8, help="samples in a batch; default %(default)s")
    parser.add_argument("--steps", type=int, default=20, help="steps where they do not vary; default %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="measurements a median is of; default %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="of the work, to try it out; default %(default)s")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="of the CPU's kernels; default: all cores")


def read_options(description: str | None) -> Options:
    """Return the options of this process's command line."""
    parser = argparse.ArgumentParser(description=description)
    add_options(parser)
    told = parser.parse_args()
    kind, _, index = told.device.partition(":")
    return Options(
        device=kind,
        device_index=int(index or 0),
        model=resolve(told.model),
        slots=told.slots,
        steps=told.steps,
        repeats=told.repeats,
        threads=told.threads,
        scale=told.scale,
    )
