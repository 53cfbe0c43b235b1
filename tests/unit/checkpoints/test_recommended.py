"""What a checkpoint recommends: read where it is there, and no part of the digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ddim_core.checkpoints import describe, digest, resolve
from ddim_core.checkpoints.recommended import RECOMMENDED, read_recommended
from ddim_core.errors import CheckpointError


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A copy of the packaged checkpoint."""
    return Path(shutil.copytree(resolve("shapes"), tmp_path / "shapes"))


def test_the_packaged_checkpoint_recommends_what_its_page_says() -> None:
    """docs/checkpoint.md measured with these."""
    page = (Path(__file__).parents[3] / "docs/checkpoint.md").read_text()
    recommended = read_recommended(describe(resolve("shapes")))
    assert recommended == {"num_inference_steps": 20, "guidance_scale": 2.0, "guidance_rescale": 0.7}
    assert "Recommended: 20 steps, `guidance_scale` 2" in page and "`guidance_rescale` 0.7" in page


def test_recommendations_change_no_digest(shapes: Path) -> None:
    """They change no image either: every row says what its own was made with."""
    (shapes / RECOMMENDED).write_text('{"num_inference_steps": 3}')
    assert digest(shapes) == digest(resolve("shapes"))
    (shapes / RECOMMENDED).unlink()
    assert (digest(shapes), read_recommended(describe(shapes))) == (digest(resolve("shapes")), {})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps must be greater than or equal to 1, got 0"),
        ({"num_inference_steps": "20"}, "num_inference_steps must be a valid integer, got '20'"),
        ({"num_inference_steps": 5000}, "num_inference_steps must be a whole number from 1 to 1000, got 5000"),
        ({"eta": 2.0}, "eta must be less than or equal to 1, got 2.0"),
        ({"height": 65}, "height must be a multiple of 8, got 65"),
        ({"scheduler": {"timestep_spacing": "sideways"}}, "timestep_spacing must be one of"),
        ({"prompt": "a star"}, "a field must be one of num_inference_steps, .*, got 'prompt'"),
        ([1], "must hold a JSON object, got list"),
    ],
)
def test_what_no_request_can_have_is_refused_with_the_way_around(shapes: Path, settings: Any, message: str) -> None:
    """The file and the value are named; the images of others do not hang on it."""
    (shapes / RECOMMENDED).write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_recommended(describe(shapes))
    assert RECOMMENDED in str(caught.value) and "\n" not in str(caught.value)
    assert "--settings diffusers" in str(caught.value) or settings == [1]
