"""Which formats can do what, and what is filled in for a person who says little."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ddim_core.contracts.image_encoding import DEFAULT_QUALITY, ImageEncoding, chosen_encoding
from ddim_core.errors import InputError
from tests.unit.storage.runs import small_plan


@pytest.mark.parametrize(
    ("given", "encoding"),
    [
        ({"image_format": "png"}, ImageEncoding("png", None)),
        ({"image_format": "png", "lossless": True}, ImageEncoding("png", None)),
        ({"image_format": "jpg"}, ImageEncoding("jpg", DEFAULT_QUALITY)),
        ({"image_format": "jpg", "quality": 1}, ImageEncoding("jpg", 1)),
        ({"image_format": "webp"}, ImageEncoding("webp", DEFAULT_QUALITY)),
        ({"image_format": "webp", "quality": 100}, ImageEncoding("webp", 100)),
        ({"image_format": "webp", "lossless": True}, ImageEncoding("webp", None)),
    ],
)
def test_what_is_left_out_is_filled_in(given: dict[str, Any], encoding: ImageEncoding) -> None:
    """A quality of 100 is not the same as losing nothing."""
    assert chosen_encoding(**given) == encoding


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_format": "gif"}, r"^the image format must be one of png, jpg, webp, got 'gif'$"),
        ({"image_format": "png", "quality": 80}, r"^quality must be left out with png, which loses nothing, got 80$"),
        ({"image_format": "jpg", "quality": 0}, r"^quality must be from 1 to 100, got 0$"),
        ({"image_format": "webp", "quality": 101}, r"^quality must be from 1 to 100, got 101$"),
        ({"image_format": "jpg", "lossless": True}, r"must be png or webp where nothing shall be lost, got jpg"),
        ({"image_format": "webp", "quality": 9, "lossless": True}, r"must be left out where nothing shall be lost"),
    ],
)
def test_wishes_that_no_format_grants_are_refused(given: dict[str, Any], message: str) -> None:
    """Rather than one of them being dropped without a word."""
    with pytest.raises(InputError, match=message):
        chosen_encoding(**given)


@pytest.mark.parametrize("fields", [{"quality": 80}, {"image_format": "jpg"}, {"image_format": "webp", "quality": 0}])
def test_a_plan_whose_format_cannot_have_its_quality_is_refused(fields: dict[str, Any]) -> None:
    """A worker that reads it must not fail at the first image."""
    plan = small_plan().model_dump()
    with pytest.raises(ValidationError, match="quality must be"):
        type(small_plan()).model_validate({**plan, **fields})
