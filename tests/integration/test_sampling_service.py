"""Images from the packaged checkpoint through the service: the same bytes in any company, failures that stay alone."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mindspore")

from ddim_core.checkpoints import describe, resolve
from ddim_core.contracts.sample import BatchShape, SampledImage, SampleSpec, Size
from ddim_core.errors import DeviceError, NotFiniteError, PromptTooLongError, SampleError
from ddim_core.sampling.service import SamplingService
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.schedule import ScheduleConfig

# The first test also pays for the fixtures: what waits inside, WAIT_S and more, must end before pytest's patience does.
pytestmark = [pytest.mark.mindspore, pytest.mark.slow, pytest.mark.timeout(900)]

FOLDER = resolve("shapes")
INFO = describe(FOLDER)
SLOTS = 2
WAIT_S = 240.0

SPEC = SampleSpec(
    prompt="a large red star on a white background",
    negative_prompt="",
    seed=11,
    image_index=0,
    num_inference_steps=4,
    guidance_scale=4.0,
    guidance_rescale=0.7,
    eta=0.0,
    height=INFO.default_height,
    width=INFO.default_width,
    schedule=INFO.schedule,
)


def scheduled(**changes: Any) -> ScheduleConfig:
    return replace(INFO.schedule, **changes)


MIX = [
    SPEC,
    replace(SPEC, eta=1.0, num_inference_steps=6, seed=12),
    replace(SPEC, eta=1.0, schedule=scheduled(variance="larger"), seed=13),
    replace(SPEC, guidance_scale=1.0, prompt="a blue circle"),
    replace(SPEC, guidance_scale=7.5, guidance_rescale=0.0, negative_prompt="a small circle", image_index=2),
    replace(SPEC, schedule=scheduled(timestep_spacing="leading", rescale_betas_zero_snr=False), num_inference_steps=3),
    replace(SPEC, schedule=scheduled(clip_sample=True, clip_sample_range=2.0), num_inference_steps=1),
]


SMALL = Size(height=32, width=48)
LONG = "a large red circle on a white background, award winning, and a small "  # 23 tokens; a window holds 22
CHUNKED = replace(SPEC, prompt=LONG + "blue star", long_prompts="chunk", windows=2)
# One, two and three windows, of two sizes; a short prompt beside a long negative one; steps, guidance and eta.
WINDOWS = [
    SPEC,
    CHUNKED,
    replace(CHUNKED, prompt=LONG + "green ring"),
    replace(CHUNKED, prompt="a star", negative_prompt=LONG, windows=3, num_inference_steps=6, eta=1.0),
    replace(CHUNKED, guidance_scale=1.0, eta=0.5),
    replace(SPEC, height=SMALL.height, width=SMALL.width, num_inference_steps=3),
    replace(CHUNKED, negative_prompt=LONG * 2, windows=3, guidance_rescale=0.0),
]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


class Studio:
    """A service that remembers the latents too: 8 bits a pixel hide differences in the last bits of float32."""

    def __init__(self, service: SamplingService) -> None:
        self.service = service
        self.session: Any = service._session
        self._latents: dict[SampleSpec, str] = {}
        take = self.session._runner.take

        def taking(sample: Any) -> Any:
            latents = take(sample)
            self._latents[sample.job.spec] = digest(latents.asnumpy())
            return latents

        self.session._runner.take = taking

    def make(self, specs: list[SampleSpec]) -> list[str]:
        """Return what identifies each picture, made together."""
        futures = [self.service.submit(spec) for spec in specs]
        return [self.look(spec, future) for spec, future in zip(specs, futures, strict=True)]

    def look(self, spec: SampleSpec, future: Future[SampledImage]) -> str:
        """Wait for a picture and return what identifies it."""
        return f"{digest(future.result(WAIT_S).pixels)} of {self._latents[spec]}"


@pytest.fixture(scope="module")
def studio() -> Iterator[Studio]:
    with SamplingService(SamplingSettings(FOLDER, slots=SLOTS, decode_batch=2)) as service:
        yield Studio(service)


@pytest.fixture(scope="module")
def alone(studio: Studio) -> list[str]:
    """Each picture of the mix, made with nobody else in the batch."""
    return [studio.make([spec])[0] for spec in MIX]


def test_a_picture_is_the_same_in_any_company(studio: Studio, alone: list[str]) -> None:
    """Bit for bit, whatever shared the batch, in whichever lanes and order: a run can be repeated and split at will."""
    assert len(set(alone)) == len(MIX)
    assert studio.make(MIX) == alone
    assert studio.make(MIX[::-1]) == alone[::-1]
    assert studio.make(MIX[3:] + [SPEC] * 3 + MIX[:3]) == alone[3:] + [alone[0]] * 3 + alone[:3]


IN_ANOTHER_PROCESS = """
import json
from tests.integration.test_sampling_service import FOLDER, MIX, SLOTS, SamplingService, SamplingSettings, Studio
with SamplingService(SamplingSettings(FOLDER, slots=SLOTS, decode_batch=2, cpu_threads=1)) as service:
    print(json.dumps(Studio(service).make(MIX[::-1])))
"""


def test_a_picture_is_the_same_in_another_process_with_one_thread(alone: list[str]) -> None:
    """Workers with other core counts make the same pictures, so who took a chunk does not show."""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_ANOTHER_PROCESS],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],  # it imports this file as a part of the package tests
        timeout=280,
        check=True,
    )
    assert json.loads(ended.stdout.splitlines()[-1]) == alone[::-1]


def test_a_sample_that_becomes_nan_fails_alone(studio: Studio, alone: list[str]) -> None:
    """The picture in the next lanes is the one it always is."""
    overflow = replace(SPEC, guidance_scale=float("inf"), guidance_rescale=0.0)
    futures = [studio.service.submit(spec) for spec in (overflow, SPEC, overflow, SPEC)]
    assert [studio.look(SPEC, future) for future in futures[1::2]] == [alone[0]] * 2
    for future in futures[::2]:
        with pytest.raises(NotFiniteError, match="the image must be made of numbers, got NaN or infinity"):
            future.result(WAIT_S)


def test_a_prompt_that_is_no_text_fails_alone(studio: Studio, alone: list[str]) -> None:
    """Prompts are encoded together, but one that the tokenizer refuses does not take the others along."""
    broken: Any = None
    futures = [studio.service.submit(spec) for spec in (SPEC, replace(SPEC, prompt=broken), SPEC)]
    assert [studio.look(SPEC, futures[i]) for i in (0, 2)] == [alone[0]] * 2
    with pytest.raises(SampleError, match="must be text that the tokenizer takes"):
        futures[1].result(WAIT_S)


def test_a_prompt_that_is_too_long_is_cut_where_that_is_asked_for(studio: Studio) -> None:
    """As every CLIP pipeline does: what follows the last token that is taken changes nothing."""
    cut = [replace(SPEC, prompt=LONG + end, long_prompts="cut") for end in ("blue star", "green ring")]
    first, second = studio.make(cut)
    assert first == second


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"long_prompts": "refuse", "windows": 1}, "prompt must have at most 24 tokens, got 27"),
        ({"negative_prompt": LONG * 3}, "windows must be at least 4 for the negative_prompt, got 2"),
    ],
)
def test_a_prompt_that_is_too_long_is_refused_alone(
    studio: Studio, alone: list[str], changes: dict[str, Any], message: str
) -> None:
    """Before it has a lane; the others of its batch get their pictures, and nothing is logged as a device's failure."""
    futures = [studio.service.submit(spec) for spec in (SPEC, replace(CHUNKED, **changes), SPEC)]
    assert [studio.look(SPEC, futures[i]) for i in (0, 2)] == [alone[0]] * 2
    with pytest.raises(PromptTooLongError, match=f"^{message}$"):
        futures[1].result(WAIT_S)


def test_a_cancelled_sample_frees_its_lanes(studio: Studio, alone: list[str]) -> None:
    """A run that is cancelled does not keep the device for a thousand steps."""
    endless = [studio.service.submit(replace(SPEC, num_inference_steps=1000, seed=seed)) for seed in range(SLOTS)]
    time.sleep(0.5)
    assert all(future.cancel() for future in endless)
    assert studio.make([SPEC]) == alone[:1]


def test_after_a_device_failure_the_service_goes_on(
    studio: Studio, alone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that shared the failed step are told; those that come after it get their pictures."""
    session = studio.session
    advance, failures = session._runner.advance, [RuntimeError("----\n- Kernel launch failed")]

    def fail_once(running: Any) -> None:
        if failures:
            raise failures.pop()
        advance(running)

    monkeypatch.setattr(session._runner, "advance", fail_once)
    futures = [studio.service.submit(replace(SPEC, seed=seed)) for seed in range(SLOTS + 1)]
    with pytest.raises(DeviceError, match="the device failed: Kernel launch failed"):
        futures[0].result(WAIT_S)
    assert studio.make([SPEC]) == alone[:1]
    assert all(future.done() for future in futures)


def test_the_counters_tell_where_the_time_went(studio: Studio, alone: list[str]) -> None:
    """Every stage has a figure, and no lane is counted twice."""
    counters = studio.service.counters()
    assert counters.images >= len(alone)
    assert 0 < counters.occupancy <= 1
    for stage in ("load", "warm_up", "text", "denoise", "decode", "read", "idle"):
        assert counters.seconds[stage] > 0
    assert counters.slots == {str(Size(SPEC.height, SPEC.width)): SLOTS}


def test_steady_work_compiles_nothing(studio: Studio, alone: list[str]) -> None:
    """New seeds, scales, step counts, schedules and eta of a size that was warmed up find their graphs there."""
    assert studio.service.counters().graphs_since_warm_up == 0


def test_a_size_is_compiled_before_its_first_sample(studio: Studio) -> None:
    """They wait for no compiler then, whatever their options."""
    studio.service.prepare([BatchShape(SMALL)])
    before = studio.service.counters()
    small = replace(SPEC, height=SMALL.height, width=SMALL.width)
    futures = [studio.service.submit(spec) for spec in (small, replace(small, seed=3, eta=0.5))]
    assert [future.result(WAIT_S).pixels.shape for future in futures] == [(32, 48, 3)] * 2
    after = studio.service.counters()
    assert (after.graphs, after.graphs_since_warm_up) == (before.graphs, 0)
    assert after.slots["48x32"] == SLOTS
    assert futures[0].result().slots == SLOTS


def test_a_picture_is_the_same_in_any_company_of_windows_and_sizes(studio: Studio) -> None:
    """Bit for bit; what was announced is compiled before, and every word of a long prompt counts."""
    studio.service.prepare([spec.batch_shape for spec in WINDOWS])
    before = studio.service.counters()
    alone = [studio.make([spec])[0] for spec in WINDOWS]
    assert len(set(alone)) == len(WINDOWS)
    assert studio.make(WINDOWS) == alone
    mixed = [*WINDOWS[3:], *WINDOWS, *WINDOWS[::-1]]
    assert studio.make(mixed) == [*alone[3:], *alone, *alone[::-1]]
    after = studio.service.counters()
    assert (after.graphs, after.graphs_since_warm_up) == (before.graphs, 0)
    assert after.slots == dict.fromkeys(("64x64", "64x64/2w", "64x64/3w", "48x32"), SLOTS)
