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
from tests.tiny_kernels import stand_ins

pytest.importorskip("mindspore")
pytestmark = [pytest.mark.mindspore, pytest.mark.slow, pytest.mark.usefixtures("quiet")]

DOCUMENT = Path(__file__).parents[2] / "docs/scheduler.md"
CONFIG = {"beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}
# The schedulers differ by 1e-6 of a latent a step. LEdits++ divides by the variance and then chooses what it edits by
# quantiles, and mindone's variance is a difference of float32 numbers close to 1. Kandinsky's decoder, of random
# weights, norms its channels by the latents: those differ by 4e-6 of 14, the pictures by ten times as much.
TOLERANCES = {"LEdits": 2e-3, "Kandin": 2e-4}
TOLERANCE = 2e-5

SECTION = DOCUMENT.read_text().partition("\n## Pipelines\n")[2].partition("\n## ")[0]


def documented() -> dict[str, tuple[str, str]]:
    """Return the table of the documents: each pipeline, what was tried with it, and the remark."""
    rows = re.findall(r"^\| `(\w+)` \| (\w[\w ]*?)(?:[:,;] (.*))? \|$", SECTION, flags=re.MULTILINE)
    return {name: (tried, remark) for name, tried, remark in rows}


TABLE = documented()


def lacking(name: str) -> set[str]:
    """Return the kernels that a pipeline's remark says the CPU lacks."""
    first, _, _ = TABLE[name][1].partition(";")
    return set(re.findall(r"`([\w.]+)`", first)) if first.startswith("stand-ins for ") else set()


def kept(name: str, scheduler: Any) -> type:
    """Return the class of the scheduler that a pipeline has when it was made with one."""
    from mindone.diffusers import LMSDiscreteScheduler

    return LMSDiscreteScheduler if "LMS" in TABLE[name][1] else type(scheduler)


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
    assert {tried for tried, _ in TABLE.values()} == {"pictures"}


def test_the_document_counts_what_its_table_lists() -> None:
    """All, those that run on the CPU as it is, and those that do with stand-ins."""
    with_stand_ins = sum(bool(lacking(name)) for name in TABLE)
    counts = (len(TABLE), len(TABLE) - with_stand_ins, with_stand_ins)
    sentence = "All {} make their pictures, {} on the CPU as it is and {} with stand-ins."
    assert sentence.format(*counts) in " ".join(SECTION.split())


@pytest.mark.parametrize("name", TABLE)
def test_a_pipeline_is_built_around_ours(name: str) -> None:
    """Its constructor neither refuses ours nor puts another in its place."""
    from ddim_core.sampling.scheduler import DDIMScheduler

    scheduler = DDIMScheduler(**CONFIG)
    with stand_ins():
        pipe = tiny_pipelines.build(name, scheduler)
    assert type(pipe.scheduler) is kept(name, scheduler)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ALWAYS else pytest.mark.long) for name in TABLE]
)
def test_a_pipeline_makes_the_picture_that_it_makes_with_mindones(name: str) -> None:
    """From the same networks, prompt, picture and generator, with the DDPM's noise where it takes eta."""
    from mindone.diffusers import DDIMScheduler as Theirs

    from ddim_core.sampling.scheduler import DDIMScheduler

    made: list[Any] = []
    for scheduler in (Theirs(**CONFIG), DDIMScheduler(**CONFIG)):
        with stand_ins():
            pipe = tiny_pipelines.build(name, scheduler)
        assert type(pipe.scheduler) is kept(name, scheduler)
        with stand_ins() as used:
            made.append(np.asarray(tiny_pipelines.call(name, pipe), dtype=np.float64))
        assert used == lacking(name)
    assert np.isfinite(made[0]).all() and made[0].std() > 0.01, "a picture of one colour would agree with anything"
    np.testing.assert_allclose(made[1], made[0], rtol=0, atol=TOLERANCES.get(name[:6], TOLERANCE))
