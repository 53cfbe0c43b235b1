"""The simulated device keeps the promises of a sampler."""

from __future__ import annotations

import dataclasses
import time
import zlib
from concurrent.futures import CancelledError

import numpy as np
import pytest

from ddim_core.errors import DeviceError, SampleError
from tests.unit.workers.samples import items
from workers.simulated import SimulatedSampler, draw


def test_equal_specs_make_equal_pictures_of_the_asked_size() -> None:
    """And other seeds other ones."""
    spec = items(1)[0].spec
    assert draw(spec).shape == (8, 16, 3)
    assert np.array_equal(draw(spec), draw(dataclasses.replace(spec)))
    assert not np.array_equal(draw(spec), draw(dataclasses.replace(spec, seed=8)))


def test_a_noisy_prompt_gives_what_does_not_compress() -> None:
    """A run of such pictures is as large as one of photographs."""
    picture = draw(dataclasses.replace(items(1)[0].spec, prompt="sim:noise 1"))
    assert picture.shape == (8, 16, 3) and len(zlib.compress(picture.tobytes())) >= picture.nbytes


def test_a_batch_of_samples_takes_the_steps_of_one() -> None:
    """Slots are advanced together: eight samples of 3 steps on four slots are 6 steps, not 24."""
    sampler = SimulatedSampler(slots=4, step_ms=20)
    began = time.monotonic()
    images = [sampler.submit(item.spec) for item in items(8)]
    assert [image.result(5).pixels.shape for image in images] == [(8, 16, 3)] * 8
    assert 0.12 <= time.monotonic() - began < 0.4
    assert 6 <= sampler.counters().steps <= 7 and sampler.counters().full_steps > 4
    sampler.close()


def test_a_failing_prompt_fails_alone_and_a_breaking_one_takes_the_batch_along() -> None:
    """As a NaN and a lost device do."""
    sampler = SimulatedSampler(slots=4, step_ms=1)
    spec = items(1)[0].spec
    fails, goes = sampler.submit(dataclasses.replace(spec, prompt="sim:fail")), sampler.submit(spec)
    with pytest.raises(SampleError):
        fails.result(5)
    goes.result(5)
    long = sampler.submit(dataclasses.replace(spec, num_inference_steps=1000))
    breaks = sampler.submit(dataclasses.replace(spec, prompt="sim:break"))
    for image in (breaks, long):
        with pytest.raises(DeviceError):
            image.result(5)
    sampler.close()


def test_closing_drains_or_cancels() -> None:
    """No future is left without an end."""
    spec = items(1)[0].spec
    drained = SimulatedSampler(slots=1, step_ms=1)
    images = [drained.submit(spec) for _ in range(3)]
    drained.close()
    assert all(image.done() and image.exception() is None for image in images)
    dropped = SimulatedSampler(slots=1, step_ms=50)
    images = [dropped.submit(spec) for _ in range(3)]
    dropped.close(drain=False)
    assert isinstance(images[-1].exception(0), CancelledError)
