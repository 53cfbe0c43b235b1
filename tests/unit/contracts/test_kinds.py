"""Kinds of requests: what each makes, of which noise or picture, on which way, and what does not go with it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ddim_core.contracts.plan import PlannedRequest, split_into_chunks
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import SampleSpec
from ddim_core.contracts.start import Between, Picture
from ddim_core.errors import ScheduleError
from ddim_core.schedule import DOWN, Glimpse, RoundTrip, ScheduleConfig

BASE = ScheduleConfig(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
SOURCE = f"inputs/{'a' * 64}.png"


def request_of(**fields: Any) -> Request:
    planned = {"prompt": "a", "custom_id": "x", "height": 64, "width": 64, "num_inference_steps": 20}
    return Request.model_validate({**planned, **fields}, strict=True)


def samples(request: Request) -> list[SampleSpec]:
    return request.samples(BASE, 0, 0, request.image_count)


def test_an_interpolation_goes_from_the_noise_of_one_seed_to_that_of_the_other() -> None:
    """Frame i lies at i / (N - 1), and all of them have the key of the first seed."""
    made = samples(request_of(interpolate={"seeds": [3, 8], "frames": 5}))
    assert [spec.start for spec in made] == [Between(8, fraction) for fraction in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert {(spec.seed, spec.image_index, spec.path, spec.kind) for spec in made} == {(3, 0, DOWN, "interpolate")}


@pytest.mark.parametrize(
    ("trace", "steps"),
    [
        ({}, [4, 8, 12, 16, 20]),
        ({"frames": 3}, [7, 14, 20]),
        ({"frames": 20}, list(range(1, 21))),
        ({"steps": [1, 5]}, [1, 5]),
    ],
)
def test_a_trace_shows_one_image_after_several_of_its_steps(trace: dict[str, Any], steps: list[int]) -> None:
    """Evenly spaced unless said, the last after all steps; all with the noise of the one image."""
    request = request_of(trace=trace, eta=0.5)
    made = samples(request)
    (plain,) = samples(request_of(eta=0.5))
    assert [spec.path for spec in made] == [Glimpse(count) for count in steps]
    assert [spec.num_steps for spec in made] == [request.num_steps(image) for image in range(len(steps))] == steps
    assert {(spec.seed, spec.image_index, spec.kind) for spec in made} == {(plain.seed, plain.image_index, "trace")}


def test_a_trace_of_few_steps_has_no_more_frames_than_these() -> None:
    """The default asks for five where there are five."""
    assert request_of(trace={}, num_inference_steps=3).image_count == 3


def test_an_inversion_goes_up_and_down_again_from_its_picture() -> None:
    """One image of twice the steps; its equality is that of the picture's name, not of the pixels at hand."""
    request = request_of(invert={"image": SOURCE})
    (spec,) = samples(request)
    assert (spec.start, spec.path, spec.kind) == (Picture(SOURCE), RoundTrip(), "invert")
    assert (request.image_count, spec.num_steps) == (1, 40)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"interpolate": {"seeds": [3, 8]}, "trace": {}}, "trace must not be given beside interpolate"),
        ({"interpolate": {"seeds": [3, 8]}, "seed": 1}, "seed must be left out with interpolate, .*, got 1"),
        ({"interpolate": {"seeds": [3, 8]}, "eta": 0.5}, "eta must be 0 with interpolate, got 0.5"),
        (
            {"interpolate": {"seeds": [3, 8]}, "scheduler": {"variance": "larger"}},
            "variance must be ddim with interpolate, got larger",
        ),
        ({"interpolate": {"seeds": [3, 3]}}, "seeds must be two that differ, got 3 twice"),
        ({"trace": {}, "num_images_per_prompt": 2}, "num_images_per_prompt must be 1 with trace, .*, got 2"),
        ({"trace": {"frames": 21}}, "num_inference_steps must be at least 21 for this trace, got 20"),
        ({"trace": {"steps": [5, 21]}}, "num_inference_steps must be at least 21 for this trace, got 20"),
        ({"trace": {"steps": [5, 5]}}, r"steps must rise, got \[5, 5\]"),
        ({"trace": {"steps": [5], "frames": 2}}, "steps must not be given beside frames"),
        ({"invert": {"image": SOURCE}, "eta": 1.0}, "eta must be 0 with invert, got 1"),
        ({"invert": {"image": SOURCE}, "seed": 0}, "seed must be left out with invert, .*, got 0"),
    ],
)
def test_what_does_not_go_with_a_kind_is_refused(fields: dict[str, Any], message: str) -> None:
    """Nothing that a line says is passed over."""
    with pytest.raises(ValidationError, match=message):
        request_of(**fields)


def test_a_schedule_that_cannot_be_turned_around_cannot_be_inverted() -> None:
    """It is found before anything is queued, with the checkpoint's own config."""
    single = request_of(invert={"image": SOURCE}, num_inference_steps=1)
    with pytest.raises(ScheduleError, match="num_inference_steps must be at least 2 to invert"):
        single.schedule(BASE)


def test_a_plan_names_copies_of_pictures_and_no_other_file() -> None:
    """A worker reads what a chunk's file says: it shall be in the run's folder."""
    with pytest.raises(ValidationError, match="image must be a copy in the run's folder, got '/etc/passwd'"):
        PlannedRequest(index=0, image_count=1, request=request_of(invert={"image": "/etc/passwd"}))


def test_frames_are_images_that_chunks_may_part() -> None:
    """As many as the kind says, in order."""
    request = request_of(interpolate={"seeds": [3, 8], "frames": 5})
    chunks = list(split_into_chunks([(0, request)], 2))
    assert [(line.first_image, line.image_count) for (line,) in chunks] == [(0, 2), (2, 2), (4, 1)]
    again = PlannedRequest.model_validate_json(chunks[1][0].model_dump_json(exclude_defaults=True))
    assert again == chunks[1][0]
