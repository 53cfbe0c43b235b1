"""One line of input: what an image is to show and how it is to be sampled, under the names of diffusers."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ddim_core.contracts.kinds import KINDS, Interpolate, Invert, Special, Trace
from ddim_core.contracts.long_prompts import LongPrompts
from ddim_core.contracts.sample import SEED_LIMIT, Kind, SampleSpec, derived_seed
from ddim_core.contracts.start import Start
from ddim_core.schedule import DOWN, Path, ScheduleConfig, step_table, upward_table

MAX_PROMPT_CHARS = 10_000
MAX_IMAGES_PER_PROMPT = 100_000
MAX_SIDE_PX = 8192

FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


class Request(BaseModel):
    """What one line asks for; the defaults are those of diffusers' ``StableDiffusionPipeline``.

    With a class-conditional checkpoint ``class_label`` says what to draw, and ``prompt`` is what the image is then said
    to show; with an unconditional one there is neither.

    ``height`` and ``width`` default to the checkpoint's size, ``seed`` to one derived from the run's seed and
    ``custom_id``, and ``custom_id`` to the request's position in the run. Give ``custom_id`` to make images independent
    of the order of the input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)

    prompt: str = Field(default="", max_length=MAX_PROMPT_CHARS)
    negative_prompt: str = Field(default="", max_length=MAX_PROMPT_CHARS)
    class_label: int | None = Field(default=None, ge=0)
    num_images_per_prompt: int = Field(default=1, ge=1, le=MAX_IMAGES_PER_PROMPT)
    seed: int | None = Field(default=None, ge=0, lt=SEED_LIMIT)
    num_inference_steps: int = Field(default=50, ge=1)
    guidance_scale: FiniteFloat = Field(default=7.5, ge=0.0, le=1000.0)
    guidance_rescale: FiniteFloat = Field(default=0.0, ge=0.0, le=1.0)
    eta: FiniteFloat = Field(default=0.0, ge=0.0, le=1.0)
    height: int | None = Field(default=None, ge=1, le=MAX_SIDE_PX)
    width: int | None = Field(default=None, ge=1, le=MAX_SIDE_PX)
    scheduler: dict[str, Any] = Field(default_factory=dict)
    custom_id: str | None = Field(default=None, min_length=1, max_length=256)
    metadata: dict[str, str] = Field(default_factory=dict)
    long_prompts: LongPrompts | None = None
    """What becomes of a prompt or negative prompt that its text encoder is too short for; None: as the run says."""
    max_windows: int | None = Field(default=None, ge=1)
    """With ``chunk``: how many windows of the text encoder they may take; None: as the run says."""
    interpolate: Interpolate | None = None
    trace: Trace | None = None
    invert: Invert | None = None

    @property
    def special(self) -> Special | None:
        """What it asks for in place of plain images, if it does."""
        return self.interpolate or self.trace or self.invert

    @property
    def kind(self) -> Kind:
        """What it is called for that."""
        return "image" if self.special is None else self.special.kind

    @property
    def image_count(self) -> int:
        """How many images it makes."""
        special = self.special
        return self.num_images_per_prompt if special is None else special.count(self.num_inference_steps)

    def num_steps(self, image: int) -> int:
        """Return how many steps an image takes."""
        _, path = self._way(image)
        return path.num_steps(self.num_inference_steps)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Request:
        if self.special is not None:
            _check_special(self)
        return self

    @field_validator("prompt")
    @classmethod
    def _prompt_says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("must not be blank")
        return prompt

    @field_validator("scheduler")
    @classmethod
    def _scheduler_is_known(cls, overrides: dict[str, Any]) -> dict[str, Any]:
        """Refuse unknown fields and values; ``schedule`` checks them together with the checkpoint's config."""
        if not overrides:
            return overrides
        try:
            text = json.dumps(overrides)
        except (TypeError, ValueError):  # an array from Python, for instance
            ScheduleConfig.from_mapping(overrides)
        else:
            _check_overrides(text)
        return overrides

    def schedule(self, base: ScheduleConfig) -> ScheduleConfig:
        """Return the checkpoint's scheduler config with this request's overrides applied.

        Raises:
            ScheduleError: No DDIM schedule exists for the config with this request's step count and eta.
        """
        config = base.replace_with(self.scheduler) if self.scheduler else base
        step_table(config, self.num_inference_steps, self.eta)
        if self.invert is not None:
            upward_table(config, self.num_inference_steps)
        return config

    def samples(
        self,
        base: ScheduleConfig,
        run_seed: int,
        first: int,
        count: int,
        *,
        long_prompts: LongPrompts = "cut",
        windows: int = 1,
    ) -> list[SampleSpec]:
        """Return what images ``first`` to ``first + count - 1`` of this request are made from.

        ``height``, ``width`` and ``custom_id`` are filled in, as ``PlannedRequest`` makes sure. ``long_prompts`` holds
        for a request that does not say; ``windows`` is what its texts fill in ``chunk``.

        Raises:
            ScheduleError: No DDIM schedule exists for this request on the checkpoint's config.
        """
        assert self.height is not None and self.width is not None and self.custom_id is not None
        schedule, mode = self.schedule(base), self.long_prompts or long_prompts
        ways = ((*self._noise_key(run_seed, image), *self._way(image)) for image in range(first, first + count))
        return [
            SampleSpec(
                prompt=self.prompt,
                negative_prompt=self.negative_prompt,
                seed=seed,
                image_index=image_index,
                num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale,
                guidance_rescale=self.guidance_rescale,
                eta=self.eta,
                height=self.height,
                width=self.width,
                schedule=schedule,
                class_label=self.class_label,
                start=start,
                path=path,
                long_prompts=mode,
                windows=windows if mode == "chunk" else 1,
            )
            for seed, image_index, start, path in ways
        ]

    def _way(self, image: int) -> tuple[Start | None, Path]:
        return (None, DOWN) if self.special is None else self.special.way(image, self.num_inference_steps)

    def _noise_key(self, run_seed: int, image: int) -> tuple[int, int]:
        """Return seed and image index; all frames of a trace have the noise of the request's first image."""
        assert self.custom_id is not None
        if self.interpolate is not None:
            return self.interpolate.seeds[0], 0
        if self.invert is not None:
            return 0, 0  # it begins with a picture
        image = 0 if self.trace is not None else image
        return (derived_seed(run_seed, self.custom_id, image), 0) if self.seed is None else (self.seed, image)


def _check_special(request: Request) -> None:
    """Raise ValueError for fields that do not go with the request's kind."""
    first, *others = [name for name in KINDS if getattr(request, name) is not None]
    if others:
        raise ValueError(f"{others[0]} must not be given beside {first}")
    if request.num_images_per_prompt != 1:
        got = request.num_images_per_prompt
        raise ValueError(
            f"num_images_per_prompt must be 1 with {first}, which says how many images it makes, got {got}"
        )
    if request.trace is not None and request.trace.last(request.num_inference_steps) > request.num_inference_steps:
        last = request.trace.last(request.num_inference_steps)
        raise ValueError(
            f"num_inference_steps must be at least {last} for this trace, got {request.num_inference_steps}"
        )
    if request.trace is None and request.seed is not None:
        raise ValueError(f"seed must be left out with {first}, which does not begin with its noise, got {request.seed}")
    if request.trace is None and request.eta != 0:
        raise ValueError(f"eta must be 0 with {first}, got {request.eta:g}")
    if request.trace is None and request.scheduler.get("variance", "ddim") != "ddim":
        raise ValueError(f"variance must be ddim with {first}, got {request.scheduler['variance']}")


@lru_cache(maxsize=1024)
def _check_overrides(text: str) -> None:
    """Check overrides in the form of JSON; a million requests share a few, and each check takes as long as the rest."""
    ScheduleConfig.from_mapping(json.loads(text))
