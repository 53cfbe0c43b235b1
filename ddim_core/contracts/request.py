"""One line of input: what an image is to show and how it is to be sampled, under the names of diffusers."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ddim_core.contracts.sample import SEED_LIMIT, SampleSpec, derived_seed
from ddim_core.schedule import ScheduleConfig, step_table

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
        return config

    def samples(self, base: ScheduleConfig, run_seed: int, first: int, count: int) -> list[SampleSpec]:
        """Return what images ``first`` to ``first + count - 1`` of this request are made from.

        ``height``, ``width`` and ``custom_id`` are filled in, as ``PlannedRequest`` makes sure.

        Raises:
            ScheduleError: No DDIM schedule exists for this request on the checkpoint's config.
        """
        assert self.height is not None and self.width is not None and self.custom_id is not None
        schedule = self.schedule(base)
        return [
            SampleSpec(
                prompt=self.prompt,
                negative_prompt=self.negative_prompt,
                seed=derived_seed(run_seed, self.custom_id, image) if self.seed is None else self.seed,
                image_index=0 if self.seed is None else image,
                num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale,
                guidance_rescale=self.guidance_rescale,
                eta=self.eta,
                height=self.height,
                width=self.width,
                schedule=schedule,
                class_label=self.class_label,
            )
            for image in range(first, first + count)
        ]


@lru_cache(maxsize=1024)
def _check_overrides(text: str) -> None:
    """Check overrides in the form of JSON; a million requests share a few, and each check takes as long as the rest."""
    ScheduleConfig.from_mapping(json.loads(text))
