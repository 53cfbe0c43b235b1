"""When a worker process that died is started again, and when its device is given up: counts and times, no process."""

from __future__ import annotations

from dataclasses import dataclass

MIN_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
STABLE_S = 120.0
"""A process that lived this long, or made an image, did not die of its start."""
MAX_DEATHS = 8
"""Pauses of two minutes in all. A request that kills its worker takes up to six lives before it is found out, where
there is one worker and nothing else to make; a device must not be given up for that."""


@dataclass(slots=True)
class Restarts:
    """The history of one device's processes."""

    max_deaths: int = MAX_DEATHS
    deaths: int = 0
    """Since the last process that worked."""
    pause_s: float = MIN_PAUSE_S
    """Before the next start."""

    def died(self, *, lived_s: float, worked: bool) -> bool:
        """Take in a death and set the pause; return whether the device is to be given up."""
        if worked or lived_s >= STABLE_S:
            self.forgive()
        self.pause_s = min(MIN_PAUSE_S * 2**self.deaths, MAX_PAUSE_S)
        self.deaths += 1
        return self.deaths >= self.max_deaths

    def forgive(self) -> None:
        """Begin anew: the device works, or somebody says that it was mended."""
        self.deaths, self.pause_s = 0, MIN_PAUSE_S
