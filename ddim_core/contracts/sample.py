"""What the sampling core is asked for, one image, and what it hands back."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ddim_core.schedule import ScheduleConfig

SEED_LIMIT = 2**63
"""Seeds lie in [0, SEED_LIMIT): dataset loaders read them as signed 64-bit integers."""


@dataclass(frozen=True, slots=True)
class SampleSpec:
    """All that determines one image, given a checkpoint: two equal values make the same picture."""

    prompt: str
    negative_prompt: str
    seed: int
    """Key of the sample's noise, together with ``image_index``; in [0, 2**63)."""
    image_index: int
    """Which image of its request this is, from 0; always 0 where the request left the seed to be derived."""
    num_inference_steps: int
    guidance_scale: float
    guidance_rescale: float
    eta: float
    height: int
    """Pixels, a multiple of the VAE's factor."""
    width: int
    """Pixels, a multiple of the VAE's factor."""
    schedule: ScheduleConfig
    """The checkpoint's scheduler with the request's overrides applied."""


def derived_seed(run_seed: int, custom_id: str, image: int) -> int:
    """Return the seed of image number ``image`` of a request that names none, in [0, 2**63).

    It depends on nothing but the arguments, so that order, chunks and workers do not change an image.
    """
    digest = hashlib.sha256(f"{run_seed}\0{custom_id}\0{image}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEED_LIMIT


@dataclass(frozen=True, slots=True)
class SampledImage:
    """A finished image, as the sampling service hands it over."""

    pixels: npt.NDArray[np.uint8]
    """RGB, shape [height, width, 3]."""
    seconds: float
    """From admission to a slot to the decoded image."""


class Sampler(Protocol):
    """What makes images in a worker: MindSpore on one device (``SamplingService``), or a simulated device."""

    def submit(self, spec: SampleSpec) -> Future[SampledImage]:
        """Queue one sample; blocks while the bounded queue is full. The future fails with a ``FleetError``."""
        ...

    def close(self, *, drain: bool = True) -> None:
        """Stop; with ``drain`` after everything submitted is done, otherwise the rest is cancelled."""
        ...
