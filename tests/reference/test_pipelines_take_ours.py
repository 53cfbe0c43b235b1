"""All of mindone's pipelines that take a DDIM scheduler take ours: built with it, and pictures that stay the same."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny_pipelines

pytest.importorskip("mindspore")
pytestmark = [pytest.mark.mindspore, pytest.mark.slow, pytest.mark.usefixtures("quiet")]

DOCUMENT = Path(__file__).parents[2] / "docs/scheduler.md"
CONFIG = {"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
# The schedulers differ by 1e-6 of a latent a step. LEdits++ divides by the variance and then chooses what it edits by
# quantiles, and mindone's variance is a difference of float32 numbers close to 1.
TOLERANCE, TOLERANCE_OF_LEDITS = 2e-5, 2e-3

BUILT, RUN, NOT_HERE = "built", "pictures", "not here"


def documented() -> dict[str, str]:
    """Return the table of the documents: each pipeline, and what was tried with it."""
    section = DOCUMENT.read_text().partition("\n## Pipelines\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (\w[\w ]*?)(?:[:,;] .*)? \|", section, flags=re.MULTILINE))


TABLE = documented()
ALWAYS = (
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionInpaintPipeline",
    "DiTPipeline",
    "DDIMPipeline",
    "LEditsPPPipelineStableDiffusion",
)
"""Whose pictures every run of the tests compares; those of all others take minutes."""


@pytest.fixture
def quiet(cpu: None) -> Iterator[None]:
    """Keep away what mindone says of its own parts."""
    from ddim_core.sampling import device

    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_the_document_lists_all_of_mindones_pipelines_that_take_ddim() -> None:
    """By the constructors of the installed version: a newer one may bring another."""
    assert set(TABLE) == set(tiny_pipelines.takers())
    assert set(TABLE.values()) <= {BUILT, RUN, NOT_HERE}


@pytest.mark.parametrize("name", [name for name, tried in TABLE.items() if tried != NOT_HERE])
def test_a_pipeline_is_built_around_ours(name: str) -> None:
    """Its constructor neither refuses ours nor puts another in its place."""
    from ddim_core.sampling.scheduler import DDIMScheduler

    pipe = tiny_pipelines.build(name, DDIMScheduler(**CONFIG))
    assert type(pipe.scheduler) is DDIMScheduler


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ALWAYS else pytest.mark.long)
        for name, tried in TABLE.items()
        if tried == RUN
    ],
)
def test_a_pipeline_makes_the_picture_that_it_makes_with_mindones(name: str) -> None:
    """From the same networks, prompt, picture and generator, with the DDPM's noise where it takes eta."""
    from mindone.diffusers import DDIMScheduler as Theirs

    from ddim_core.sampling.scheduler import DDIMScheduler

    made: list[Any] = []
    for scheduler in (Theirs(**CONFIG), DDIMScheduler(**CONFIG)):
        pipe = tiny_pipelines.build(name, scheduler)
        assert type(pipe.scheduler) is type(scheduler)
        made.append(np.asarray(tiny_pipelines.call(name, pipe), dtype=np.float64))
    assert np.isfinite(made[0]).all() and made[0].std() > 0.01, "a picture of one colour would agree with anything"
    tolerance = TOLERANCE_OF_LEDITS if name.startswith("LEdits") else TOLERANCE
    np.testing.assert_allclose(made[1], made[0], rtol=0, atol=tolerance)
