"""What a request may ask for in place of plain images: an interpolation, a trace, or the inversion of a picture."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ddim_core.contracts.sample import SEED_LIMIT, Kind
from ddim_core.contracts.start import Between, Picture, Start
from ddim_core.schedule import DOWN, Glimpse, Path, RoundTrip

MAX_FRAMES = 1000
DEFAULT_FRAMES = 9
DEFAULT_GLIMPSES = 5
INPUT = re.compile(r"inputs/[0-9a-f]{64}\.(?:png|jpg|webp)")
"""Where a picture lies in a run's folder, under its sha256."""


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # JSON has no tuples, and strict validation takes no list


Seed: TypeAlias = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
Count: TypeAlias = Annotated[int, Field(ge=1)]


class Interpolate(BaseModel):
    """Images on the arc between the noise of two seeds; the first and the last are those of the seeds themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[Kind] = "interpolate"

    seeds: Annotated[tuple[Seed, Seed], BeforeValidator(_as_tuple)]
    frames: int = Field(default=DEFAULT_FRAMES, ge=2, le=MAX_FRAMES)

    @model_validator(mode="after")
    def _seeds_differ(self) -> Interpolate:
        if self.seeds[0] == self.seeds[1]:
            raise ValueError(f"seeds must be two that differ, got {self.seeds[0]} twice")
        return self

    def count(self, num_inference_steps: int) -> int:
        """Return how many images it makes."""
        return self.frames

    def way(self, frame: int, num_inference_steps: int) -> tuple[Start | None, Path]:
        """Return where an image begins, and which way it takes."""
        return Between(self.seeds[1], frame / (self.frames - 1)), DOWN


class Trace(BaseModel):
    """What the model takes the image for on its way: the x_0 that it predicts after some of the steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[Kind] = "trace"

    frames: int | None = Field(default=None, ge=1, le=MAX_FRAMES)
    """So many, evenly spaced, the last after all steps."""
    steps: Annotated[tuple[Count, ...], BeforeValidator(_as_tuple)] | None = Field(default=None, min_length=1)
    """Or one after each of these numbers of steps."""

    @model_validator(mode="after")
    def _says_it_once(self) -> Trace:
        if self.frames is not None and self.steps is not None:
            raise ValueError("steps must not be given beside frames")
        if self.steps is not None and list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps must rise, got {list(self.steps)}")
        return self

    def last(self, num_inference_steps: int) -> int:
        """Return how many steps there must be."""
        return self.steps[-1] if self.steps is not None else self.frames or 1

    def count(self, num_inference_steps: int) -> int:
        """Return how many images it makes."""
        if self.steps is not None:
            return len(self.steps)
        return self.frames or min(DEFAULT_GLIMPSES, num_inference_steps)

    def way(self, frame: int, num_inference_steps: int) -> tuple[Start | None, Path]:
        """Return where an image begins, and which way it takes."""
        if self.steps is not None:
            return None, Glimpse(self.steps[frame])
        count = self.count(num_inference_steps)
        return None, Glimpse(-(-num_inference_steps * (frame + 1) // count))


class Invert(BaseModel):
    """The noise that a picture comes from, and the picture made from that again."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[Kind] = "invert"

    image: str = Field(min_length=1, max_length=4096)
    """Path or URL; in a plan, the copy in the run's folder."""

    def count(self, num_inference_steps: int) -> int:
        """Return how many images it makes."""
        return 1

    def way(self, frame: int, num_inference_steps: int) -> tuple[Start | None, Path]:
        """Return where an image begins, and which way it takes."""
        return Picture(self.image), RoundTrip()


Special: TypeAlias = Interpolate | Trace | Invert
SPECIAL: tuple[type[Interpolate], type[Trace], type[Invert]] = (Interpolate, Trace, Invert)
KINDS: tuple[str, ...] = tuple(each.kind for each in SPECIAL)
"""Fields of a request, of which it has one at most."""
