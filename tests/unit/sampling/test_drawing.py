"""Noise drawn ahead: the same values, earlier."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from ddim_core.contracts.sample import SampleSpec
from ddim_core.contracts.start import Between, Picture
from ddim_core.sampling.drawing import SampleNoise, page_steps
from ddim_core.sampling.noise import initial_noise, slerp, step_noise
from ddim_core.schedule import Glimpse, RoundTrip, ScheduleConfig

SHAPE = (4, 64, 64)
SPEC = SampleSpec("a", "", 7, 1, 40, 4.0, 0.0, 0.5, 512, 512, ScheduleConfig())


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Give the thread that draws."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize("shape", [(4, 8, 8), SHAPE, (4, 128, 128), (4, 1024, 1024)])
def test_pages_are_small_enough_to_keep_two_for_every_lane(shape: tuple[int, int, int]) -> None:
    """A page has at most 32 steps and 2 MiB, and at least one step."""
    steps = page_steps(shape)
    assert 1 <= steps <= 32
    assert steps == 1 or 4 * steps * math.prod(shape) <= 2**21


def test_pages_hold_the_noise_of_the_steps(pool: ThreadPoolExecutor) -> None:
    """To the bit that of ``noise``, whatever page a step is on; beyond the last step there is nothing."""
    noise = SampleNoise(SPEC, SHAPE, pool)
    assert np.array_equal(noise.initial, initial_noise(SPEC.seed, SPEC.image_index, SHAPE))
    assert [noise.has_page(number) for number in range(3)] == [True, True, False]
    pages = np.concatenate([noise.take_page(0), noise.take_page(1)])
    for step in range(SPEC.num_inference_steps):
        assert np.array_equal(pages[step], step_noise(SPEC.seed, SPEC.image_index, step, SHAPE))
    assert not pages[SPEC.num_inference_steps :].any()


def test_the_next_page_is_drawn_while_the_device_is_at_this_one(pool: ThreadPoolExecutor) -> None:
    """And the first one while the sample waits, so that nobody waits for NumPy."""
    noise = SampleNoise(SPEC, SHAPE, pool)
    pool.submit(int).result()  # what was asked for before is done
    assert noise.is_drawn(0) and not noise.is_drawn(1)
    noise.take_page(0)
    pool.submit(int).result()
    assert noise.is_drawn(1)


def test_a_sample_that_begins_anew_finds_its_first_page_again(pool: ThreadPoolExecutor) -> None:
    """After a device failure."""
    noise = SampleNoise(SPEC, SHAPE, pool)
    first = noise.take_page(0)
    noise.take_page(1)
    assert np.array_equal(noise.take_page(0), first)


def test_a_sample_without_eta_pays_nothing(pool: ThreadPoolExecutor) -> None:
    """It has no page at all."""
    noise = SampleNoise(replace(SPEC, eta=0.0), SHAPE, pool)
    assert not noise.has_page(0) and not noise.is_drawn(0)


def test_a_sample_begins_where_its_start_says(pool: ThreadPoolExecutor) -> None:
    """Between two seeds the other one's noise is that of its own plain image; latents are taken as given."""
    here, there = initial_noise(SPEC.seed, SPEC.image_index, SHAPE), initial_noise(9, 0, SHAPE)
    for fraction in (0.0, 0.3, 1.0):
        noise = SampleNoise(replace(SPEC, start=Between(9, fraction)), SHAPE, pool)
        assert np.array_equal(noise.initial, slerp(here, there, fraction))
    inverted = replace(SPEC, start=Picture("inputs/a.png"), path=RoundTrip(), eta=0.0)
    assert SampleNoise(inverted, SHAPE, pool, there).initial is there


def test_a_glimpse_draws_the_noise_of_its_own_steps(pool: ThreadPoolExecutor) -> None:
    """The same as the image's on these steps, and none after them."""
    noise = SampleNoise(replace(SPEC, path=Glimpse(5)), SHAPE, pool)
    page = noise.take_page(0)
    assert np.array_equal(page[4], step_noise(SPEC.seed, SPEC.image_index, 4, SHAPE)) and not page[5:].any()
