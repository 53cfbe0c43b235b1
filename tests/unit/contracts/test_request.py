"""A request holds what can be sampled, and its images follow from it and the run's seed alone."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import SEED_LIMIT, derived_seed
from ddim_core.errors import ScheduleError
from ddim_core.schedule import ScheduleConfig

BASE = ScheduleConfig(prediction_type="v_prediction")
PLANNED: dict[str, Any] = {"prompt": "a", "custom_id": "x", "height": 64, "width": 32}


def test_the_defaults_are_those_of_diffusers() -> None:
    """A prompt alone means what it means to ``StableDiffusionPipeline``."""
    request = Request(prompt="a")
    assert (request.num_inference_steps, request.guidance_scale, request.guidance_rescale) == (50, 7.5, 0.0)
    assert (request.eta, request.negative_prompt, request.num_images_per_prompt) == (0.0, "", 1)
    assert (request.height, request.width, request.seed) == (None, None, None)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_inference_steps": 0},
        {"guidance_scale": float("nan")},
        {"guidance_rescale": 1.1},
        {"eta": -0.1},
        {"seed": SEED_LIMIT},
        {"height": 0},
        {"num_images_per_prompt": 0},
        {"prompt": " \n"},
        {"custom_id": ""},
        {"metadata": {"k": 1}},
        {"scheduler": {"beta_schedule": "cubic"}},
        {"unknown": 1},
    ],
)
def test_what_cannot_be_sampled_is_no_request(fields: dict[str, Any]) -> None:
    """A worker that reads one from a chunk has nothing left to check."""
    with pytest.raises(ValidationError) as caught:
        Request.model_validate({"prompt": "a", **fields})
    assert caught.value.errors()[0]["loc"][0] in fields


def test_a_schedule_is_checked_against_the_checkpoint() -> None:
    """The step count, too: the checkpoint says how many timesteps there are."""
    assert Request(prompt="a", scheduler={"timestep_spacing": "trailing"}).schedule(BASE).timestep_spacing == "trailing"
    with pytest.raises(ScheduleError, match=r"^num_inference_steps must be a whole number from 1 to 1000, got 1001$"):
        Request(prompt="a", num_inference_steps=1001).schedule(BASE)


def test_images_of_a_request_with_a_seed_share_it() -> None:
    """The number of the image is the other half of the noise's key."""
    specs = Request(**PLANNED, seed=5, num_images_per_prompt=4).samples(BASE, run_seed=1, first=1, count=2)
    assert [(spec.seed, spec.image_index) for spec in specs] == [(5, 1), (5, 2)]
    assert {(spec.height, spec.width, spec.schedule) for spec in specs} == {(64, 32, BASE)}


def test_images_of_a_request_without_a_seed_have_their_own() -> None:
    """They follow from the run's seed, the name of the request and the number, whatever the chunk."""
    request = Request(**PLANNED, num_images_per_prompt=4)
    together = request.samples(BASE, run_seed=1, first=0, count=4)
    apart = [spec for first in range(4) for spec in request.samples(BASE, run_seed=1, first=first, count=1)]
    assert together == apart
    assert [spec.seed for spec in together] == [derived_seed(1, "x", image) for image in range(4)]
    assert {spec.image_index for spec in together} == {0}


def test_a_derived_seed_never_changes() -> None:
    """Runs made by an older version must come out the same; the value was computed once and written down."""
    assert derived_seed(0, "000000000", 0) == 1_832_964_568_692_034_435
    assert len({derived_seed(run, name, image) for run in range(3) for name in "ab" for image in range(3)}) == 18
    assert all(0 <= derived_seed(0, str(name), 0) < SEED_LIMIT for name in range(1000))
