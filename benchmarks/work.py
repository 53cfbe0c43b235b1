"""What the benchmarks ask for: specs with texts of their own, all alike or mixed, and the service that makes them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from typing import Any

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.sampling.service import SamplingService

GUIDANCE_SCALE = 4.0
GUIDANCE_RESCALE = 0.7
MIXED_STEPS = (10, 20, 30, 50)
MIXED_GUIDANCE = (2.0, 7.5)
MIXED_ETA = (0.0, 1.0)

_SIZES = ("small", "large")
_COLOURS = ("red", "green", "blue", "yellow", "pink", "orange")
_SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
_GROUNDS = ("white", "black", "grey")


def prompts(count: int, first: int = 0) -> list[str]:
    """Return prompts number ``first`` and following; 216 differ, so that no side of a comparison remembers the last."""
    every = list(itertools.product(_GROUNDS, _SHAPES, _COLOURS, _SIZES))
    chosen = [every[number % len(every)] for number in range(first, first + count)]
    return [f"a {size} {colour} {shape} on a {ground} background" for ground, shape, colour, size in chosen]


def alike(info: CheckpointInfo, count: int, *, steps: int, first: int = 0) -> list[SampleSpec]:
    """Return specs that differ in prompt and seed alone."""
    return [
        _spec(info, prompt, first + i, steps=steps, guidance=GUIDANCE_SCALE, eta=0.0)
        for i, prompt in enumerate(prompts(count, first))
    ]


def mixed(info: CheckpointInfo, count: int, *, seed: int = 0, steps: Sequence[int] = MIXED_STEPS) -> list[SampleSpec]:
    """Return specs whose steps, guidance scale and eta are drawn at random, the same for the same seed."""
    draw = random.Random(seed)

    def drawn() -> dict[str, Any]:
        return {"steps": draw.choice(steps), "guidance": draw.choice(MIXED_GUIDANCE), "eta": draw.choice(MIXED_ETA)}

    return [_spec(info, prompt, number, **drawn()) for number, prompt in enumerate(prompts(count, seed))]


def make(service: SamplingService, specs: Iterable[SampleSpec]) -> list[SampledImage]:
    """Return the images of specs that are submitted together."""
    return [future.result() for future in [service.submit(spec) for spec in specs]]


def _spec(info: CheckpointInfo, prompt: str, seed: int, *, steps: int, guidance: float, eta: float) -> SampleSpec:
    return SampleSpec(
        prompt=prompt,
        negative_prompt="",
        seed=seed,
        image_index=0,
        num_inference_steps=steps,
        guidance_scale=guidance,
        guidance_rescale=GUIDANCE_RESCALE,
        eta=eta,
        height=info.default_height,
        width=info.default_width,
        schedule=info.schedule,
    )
