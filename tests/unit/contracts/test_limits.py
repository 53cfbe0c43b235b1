"""What an operator allows: read from one variable, told as field and rule."""

from __future__ import annotations

import pytest

from ddim_core.contracts.kinds import Interpolate
from ddim_core.contracts.limits import LIMITS_VARIABLE, NO_LIMITS, Limits, read_limits
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import Size
from ddim_core.errors import InputError

PIXELS = "must be at most 2047 pixels on this fleet, got 2048 (32x64)"


def request(**fields: object) -> Request:
    """Return a request with nothing left to guess."""
    given = {"prompt": "a red circle", "height": 64, "width": 32, "custom_id": "a", **fields}
    return Request.model_validate(given)


def test_limits_are_read_from_one_variable() -> None:
    """Names as in the documentation, separated by commas; blanks do no harm, and nothing set means no limit."""
    found = read_limits({LIMITS_VARIABLE: " max_num_inference_steps=100, max_side_px = 1024,"})
    assert found == Limits(max_num_inference_steps=100, max_side_px=1024)
    assert found.given() == {"max_num_inference_steps": 100, "max_side_px": 1024}
    assert read_limits({}) == read_limits({LIMITS_VARIABLE: ""}) == NO_LIMITS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_steps=1", r"^DDIM_FLEET_LIMITS must name each of max_side_px, .* once at most, got 'max_steps=1'$"),
        ("max_side_px=1,max_side_px=2", r"^DDIM_FLEET_LIMITS must name each of .*, got 'max_side_px=2'$"),
        ("max_side_px=0", r"^DDIM_FLEET_LIMITS must give max_side_px a whole number from 1, got '0'$"),
        ("max_side_px=1e3", r"^DDIM_FLEET_LIMITS must give max_side_px a whole number from 1, got '1e3'$"),
        ("max_side_px", r"^DDIM_FLEET_LIMITS must give max_side_px a whole number from 1, got ''$"),
        ("max_side_px=²", r"^DDIM_FLEET_LIMITS must give max_side_px a whole number from 1, got '²'$"),
    ],
)
def test_a_misspelt_limit_is_refused(text: str, message: str) -> None:
    """One that is passed over would be none."""
    with pytest.raises(InputError, match=message):
        read_limits({LIMITS_VARIABLE: text})


@pytest.mark.parametrize(
    ("limit", "fields", "fault"),
    [
        ({"max_num_inference_steps": 49}, {}, ("num_inference_steps", "must be at most 49 on this fleet, got 50")),
        ({"max_side_px": 63}, {}, ("height", "must be at most 63 px on this fleet, got 64")),
        ({"max_side_px": 63}, {"height": 8, "width": 64}, ("width", "must be at most 63 px on this fleet, got 64")),
        (
            {"max_pixels": 2047},
            {},
            ("height", "times width must be at most 2047 pixels on this fleet, got 2048 (32x64)"),
        ),
        ({"max_prompt_chars": 11}, {}, ("prompt", "must be at most 11 characters on this fleet, got 12")),
        (
            {"max_prompt_chars": 12},
            {"negative_prompt": "b" * 13},
            ("negative_prompt", "must be at most 12 characters on this fleet, got 13"),
        ),
        (
            {"max_images_per_request": 3},
            {"num_images_per_prompt": 4},
            ("num_images_per_prompt", "must be at most 3 images on this fleet, got 4"),
        ),
        (
            {"max_images_per_request": 8},
            {"interpolate": Interpolate(seeds=(1, 2))},
            ("interpolate", "must be at most 8 images on this fleet, got 9"),
        ),
    ],
)
def test_a_request_above_a_limit_is_told_with_field_rule_and_value(
    limit: dict[str, int], fields: dict[str, object], fault: tuple[str, str]
) -> None:
    """One more than the limit is too much; the limit itself is allowed."""
    (name,), (value,) = limit.keys(), limit.values()
    assert list(Limits(**limit).faults(request(**fields))) == [fault]
    assert list(Limits(**{name: value + 1}).faults(request(**fields))) == []
    assert list(NO_LIMITS.faults(request(**fields))) == []


def test_a_request_is_measured_with_all_that_it_carries() -> None:
    """Metadata has no limit of its own, and would fill workers' memory."""
    small, large = request(), request(metadata={"note": "x" * 1000})
    (fault,) = Limits(max_request_bytes=500).faults(large)
    assert fault[0] is None
    assert fault[1].startswith("the request must be at most 500 bytes of JSON on this fleet, got 1")
    assert list(Limits(max_request_bytes=500).faults(small)) == []


def test_a_run_above_a_limit_is_told_with_its_size() -> None:
    """By its requests and by its images."""
    limits = Limits(max_requests_per_run=10, max_images_per_run=20)
    assert list(limits.run_faults(10, 20)) == []
    assert list(limits.run_faults(11, 21)) == [
        "the requests of a run must be at most 10 on this fleet, got 11",
        "the images of a run must be at most 20 on this fleet, got 21",
    ]


def test_sizes_above_a_limit_are_known_before_anything_is_compiled_for_them() -> None:
    """By their longer side and by their area."""
    limits = Limits(max_side_px=100, max_pixels=5000)
    assert limits.allows_size(Size(100, 50))
    assert not limits.allows_size(Size(50, 101))
    assert not limits.allows_size(Size(100, 51))
