"""What the sampling core is asked for, one image, and what it hands back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ddim_core.contracts.long_prompts import LongPrompts
from ddim_core.contracts.start import Between, Start
from ddim_core.errors import InputError
from ddim_core.schedule import DOWN, Glimpse, Path, RoundTrip, ScheduleConfig

SEED_LIMIT = 2**63
"""Seeds lie in [0, SEED_LIMIT): dataset loaders read them as signed 64-bit integers."""

SIZE_PATTERN = r"^([1-9][0-9]{0,4})x([1-9][0-9]{0,4})$"
"""Of a ``Size`` as text: its width, then its height."""
SizeName: TypeAlias = Annotated[str, Field(pattern=SIZE_PATTERN)]
MAX_SIZES = 64
"""How many sizes a plan lists for workers to compile; each takes them seconds to minutes."""

Kind: TypeAlias = Literal["image", "interpolate", "trace", "invert"]
"""Of requests, and of what they make."""


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
    """Pixels, of a size that the checkpoint takes."""
    width: int
    """Pixels, of a size that the checkpoint takes."""
    schedule: ScheduleConfig
    """The checkpoint's scheduler with the request's overrides applied."""
    class_label: int | None = None
    """Index of the class to draw; None with a checkpoint that takes prompts, or nothing."""
    start: Start | None = None
    """Where it begins; None for the noise of its key."""
    path: Path = DOWN
    """Which way it takes from there."""
    long_prompts: LongPrompts = "cut"
    """What becomes of texts that are longer than the text encoder takes."""
    windows: int = 1
    """With ``chunk``, how many windows of the text encoder both texts fill, the shorter one with empty ones; else 1."""

    @property
    def batch_shape(self) -> BatchShape:
        """What it must have in common with those that it shares a batch with."""
        return BatchShape(Size(self.height, self.width), self.windows)

    @property
    def num_steps(self) -> int:
        """How many steps it takes."""
        return self.path.num_steps(self.num_inference_steps)

    @property
    def kind(self) -> Kind:
        """What it is called for its start and path."""
        if isinstance(self.path, RoundTrip):
            return "invert"
        if isinstance(self.path, Glimpse):
            return "trace"
        return "interpolate" if isinstance(self.start, Between) else "image"


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
    slots: int
    """Of the batch that it was made in; equal bytes hold for one number of them."""
    decode_batch: int = 1
    """Images that the decoder had room for; equal bytes hold for one number of them, too."""
    latents: npt.NDArray[np.float32] | None = None
    """The x_T that an inverted picture led to, shape [C, h, w]; None for any other."""


class Size(NamedTuple):
    """Height and width of an image in pixels; its text is ``WIDTHxHEIGHT``, as in OpenAI's API."""

    height: int
    width: int

    def __str__(self) -> str:
        """Return ``WIDTHxHEIGHT``."""
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: str) -> Size:
        """Return the size that ``text`` names.

        Raises:
            InputError: It names none.
        """
        if (match := re.fullmatch(SIZE_PATTERN, text)) is None:
            raise InputError(f"a size must be WIDTHxHEIGHT in pixels, such as 768x512, got {text!r}")
        return cls(height=int(match[2]), width=int(match[1]))


class BatchShape(NamedTuple):
    """What samples have in common that share a batch, and what graphs are compiled for."""

    size: Size
    windows: int = 1
    """Windows of the text encoder, each of its length, that a condition is made of."""

    def __str__(self) -> str:
        """Return the size, and the windows where they are more than one: ``512x512``, ``512x512/2w``."""
        return str(self.size) if self.windows == 1 else f"{self.size}/{self.windows}w"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a sampler has done since it was ready."""

    images: int = 0
    steps: int = 0
    """Denoising steps, each of the whole batch of one shape."""
    full_steps: float = 0.0
    """What they would have been with every slot in use."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of the thread by stage: ``load``, ``warm_up``, ``text``, ``encode`` (of pictures to be inverted),
    ``denoise``, ``decode``, ``read``, ``idle``."""
    graphs: int = 0
    """Compiled so far, warm-up included."""
    graphs_since_warm_up: int = 0
    """Those of them that samples had to wait for because no warm-up had foreseen them; none in steady work."""
    slots: Mapping[str, int] = field(default_factory=dict)
    """Slots by the text of a ``BatchShape``, for those that there are graphs for."""
    memory_shortages: int = 0
    """How often a batch was made smaller because the device had no memory for it."""

    @property
    def occupancy(self) -> float:
        """Share of the slots that held a running sample, over all steps, in [0, 1]."""
        return self.full_steps / self.steps if self.steps else 0.0

    @property
    def images_per_s(self) -> float:
        """Images in a second of work: loading, warm-up and waiting for requests are left out."""
        work_s = sum(self.seconds.get(stage, 0.0) for stage in ("text", "encode", "denoise", "decode", "read"))
        return self.images / work_s if work_s else 0.0


class Sampler(Protocol):
    """What makes images in a worker: MindSpore on one device (``SamplingService``), or a simulated device."""

    def prepare(self, shapes: Sequence[BatchShape], *, thresholding: bool = False, inverting: bool = False) -> None:
        """Compile what samples of these shapes need; returns when that is done.

        Dynamic thresholding, and pictures to be inverted, take graphs of their own.
        """
        ...

    def submit(self, spec: SampleSpec, deadline_s: float | None = None) -> Future[SampledImage]:
        """Queue one sample; blocks while the bounded queue is full. The future fails with a ``FleetError``.

        It fails with ``DeadlineExceededError`` where the image is not there ``deadline_s`` seconds after the call.
        """
        ...

    def counters(self) -> Counters:
        """Return what was done so far; any thread may ask."""
        ...

    def close(self, *, drain: bool = True) -> None:
        """Stop; with ``drain`` after everything submitted is done, otherwise the rest is cancelled."""
        ...
