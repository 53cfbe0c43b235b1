"""Where a sample begins, if not at noise of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Between:
    """Noise on the arc from that of the sample's own seed to that of another one."""

    to_seed: int
    """The other one, in [0, 2**63)."""
    fraction: float
    """Of the angle between the two, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Picture:
    """The latents of a picture, from which the sample goes up to noise and down again."""

    source: str
    """The picture's file in the run's folder: its hash, so that two equal values are the same picture."""
    pixels: npt.NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)
    """RGB, shape [height, width, 3]; read when the sample is about to be made."""


Start: TypeAlias = Between | Picture
