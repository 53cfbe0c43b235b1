"""When a worker process that died is started again, and when its device is given up: counts and times, no process."""

from __future__ import annotations

from dataclasses import dataclass

MIN_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
STABLE_S = 120.0
"""A process that lived this long, or made an image, did not die of its start."""
MAX_DEATHS = 8
"""With two minutes of pauses in all."""
TRIAL_SHARE = 5
"""So many deaths on trial count as one. They are expected: a request that kills its worker takes several lives before
it is found out, and each trial goes on with what the one before it knew. But a device that survives no trial is broken
itself, and would make a failed row of every image."""


@dataclass(slots=True)
class Restarts:
    """The history of one device's processes."""

    max_deaths: int = MAX_DEATHS
    deaths: int = 0
    """Since the last process that worked."""
    on_trial: int = 0
    """Those of them with images on trial."""
    pause_s: float = MIN_PAUSE_S
    """Before the next start."""

    def died(self, *, lived_s: float, worked: bool, tried: bool) -> bool:
        """Take in a death and set the pause; return whether the device is to be given up.

        Args:
            lived_s: The process's age.
            worked: It made an image.
            tried: It had images on trial.
        """
        if worked or lived_s >= STABLE_S:
            self.forgive()
        unexpected = self.deaths - self.on_trial
        self.pause_s = MIN_PAUSE_S if tried else min(MIN_PAUSE_S * 2**unexpected, MAX_PAUSE_S)
        self.deaths += 1
        self.on_trial += tried
        return self.deaths - self.on_trial + self.on_trial / TRIAL_SHARE >= self.max_deaths

    def forgive(self) -> None:
        """Begin anew: the device works, or somebody says that it was mended."""
        self.deaths, self.on_trial, self.pause_s = 0, 0, MIN_PAUSE_S
