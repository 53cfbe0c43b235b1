"""The simulated device keeps the promises of a sampler."""

from __future__ import annotations

import dataclasses
import hashlib
import signal
import subprocess
import sys
import time
import zlib
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import numpy as np
import pytest

from ddim_core.errors import DeviceError, code_of
from tests.unit.workers.samples import items
from workers.samplers.simulated import SimulatedSampler, draw

ROOT = Path(__file__).parents[4]


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


@pytest.mark.parametrize(
    ("prompt", "code"), [("sim:fail", "sample_failed"), ("sim:nan", "not_finite"), ("sim:oom", "out_of_memory")]
)
def test_some_prompts_fail_alone(prompt: str, code: str) -> None:
    """As they do on a real device; only images count as such."""
    sampler = SimulatedSampler(slots=4, step_ms=1)
    spec = items(1)[0].spec
    fails, goes = sampler.submit(dataclasses.replace(spec, prompt=prompt)), sampler.submit(spec)
    error = fails.exception(5)
    assert error is not None and code_of(error) == code
    goes.result(5)
    sampler.close()
    assert sampler.counters().images == 1


def test_a_breaking_prompt_takes_the_batch_along() -> None:
    """As a lost device does."""
    sampler = SimulatedSampler(slots=4, step_ms=1)
    spec = items(1)[0].spec
    long = sampler.submit(dataclasses.replace(spec, num_inference_steps=1000))
    breaks = sampler.submit(dataclasses.replace(spec, prompt="sim:break"))
    for image in (breaks, long):
        with pytest.raises(DeviceError):
            image.result(5)
    sampler.close()


@pytest.mark.parametrize(("prompt", "number"), [("sim:kill", signal.SIGKILL), ("sim:segv", signal.SIGSEGV)])
def test_some_prompts_end_the_process(prompt: str, number: signal.Signals) -> None:
    """The second by what a library with a fault does, and not by a signal that somebody sends."""
    program = (
        "import dataclasses\n"
        "from tests.unit.workers.samples import items\n"
        "from workers.samplers.simulated import SimulatedSampler\n"
        f"spec = dataclasses.replace(items(1)[0].spec, prompt='{prompt} 1')\n"
        "SimulatedSampler(slots=1, step_ms=1).submit(spec).result(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -number


def test_a_hanging_prompt_stops_the_device_for_ever() -> None:
    """Its neighbours do not come back either, and no step is made."""
    sampler = SimulatedSampler(slots=2, step_ms=1)
    spec = items(1)[0].spec
    hangs = sampler.submit(dataclasses.replace(spec, prompt="sim:hang"))
    goes = sampler.submit(dataclasses.replace(spec, num_inference_steps=20))
    with pytest.raises(FutureTimeoutError):
        hangs.result(0.3)
    assert not goes.done() and sampler.counters().steps == spec.num_inference_steps


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


def test_what_a_plan_of_before_asks_for_looks_as_it_did() -> None:
    """Runs of an older version are made again to the byte: fields that it did not know count where they are used."""
    spec = items(1)[0].spec
    known = hashlib.sha256(draw(spec).tobytes()).hexdigest()[:16]
    assert known == "14e02f5131a1ade4"
    assert not np.array_equal(draw(spec), draw(dataclasses.replace(spec, long_prompts="chunk", windows=2)))
