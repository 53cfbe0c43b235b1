"""A name that is none of ours is answered with ours, whatever other programs call it."""

from __future__ import annotations

import pytest

from ddim_core.schedule.config import PARAMETER_NAMES
from producer.requests.rows import FIELDS
from producer.requests.suggestions import did_you_mean, suggested


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("steps", "num_inference_steps"),
        ("cfg", "guidance_scale"),
        ("cfg_scale", "guidance_scale"),
        ("CFG scale", "guidance_scale"),
        ("guidance", "guidance_scale"),
        ("n", "num_images_per_prompt"),
        ("num_images", "num_images_per_prompt"),
        ("size", "width and height"),
        ("negative", "negative_prompt"),
        ("neg", "negative_prompt"),
        ("sampler", "scheduler"),
        ("text", "prompt"),
        ("caption", "prompt"),
        ("Prompt", "prompt"),
        ("id", "custom_id"),
        ("numInferenceSteps", "num_inference_steps"),
        ("num_inference", "num_inference_steps"),
        ("num", "num_images_per_prompt or num_inference_steps"),
        ("guidance_scal", "guidance_scale"),
        ("sed", "seed"),
        ("seeds", "seed"),
        ("prompt_2", "prompt"),
    ],
)
def test_a_field_is_found_by_what_others_call_it(name: str, meant: str) -> None:
    """Synonyms before beginnings, beginnings before likeness."""
    assert did_you_mean(name, FIELDS) == f"; did you mean {meant}?"


def test_what_is_like_nothing_is_not_answered() -> None:
    """A guess at random would mislead; and a synonym of what is not known here is none."""
    assert did_you_mean("zzz", FIELDS) == ""
    assert suggested("steps", PARAMETER_NAMES) != ("num_inference_steps",)
    assert suggested("spacing", PARAMETER_NAMES) == ("timestep_spacing",)
    assert suggested("colr", ("colour", "shape")) == ("colour",)
