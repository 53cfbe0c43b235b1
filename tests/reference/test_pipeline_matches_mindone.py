"""The sampling loop and the drop-in scheduler against mindone's StableDiffusionPipeline, on the packaged checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ddim_core.checkpoints import CheckpointInfo, describe, resolve
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.noise import initial_noise
from tests.reference.by_hand import encode_windows

pytestmark = [pytest.mark.mindspore, pytest.mark.slow, pytest.mark.usefixtures("cpu")]

Array = np.ndarray[Any, Any]

STEPS = 4
# Compiled and eager kernels, batches of 4 and of 1 rows, float64 and float32 coefficients differ by about 1e-6 in the
# latents; where a value lies that near to the border between two of the 256 levels, the pixel moves by one.
LEVELS = 1


@pytest.fixture(scope="module")
def info() -> CheckpointInfo:
    return describe(resolve("shapes"))


@pytest.fixture(scope="module")
def pipe(cpu: None, info: CheckpointInfo) -> Any:
    """Pipeline of mindone with the scheduler that the checkpoint's configuration describes."""
    from ddim_core.sampling.device import quiet_import

    with quiet_import():
        from mindone.diffusers import DDIMScheduler, StableDiffusionPipeline

        pipe = StableDiffusionPipeline.from_pretrained(
            str(info.folder), use_safetensors=True, local_files_only=True, safety_checker=None
        )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


@pytest.fixture(scope="module")
def session(cpu: None, info: CheckpointInfo) -> Iterator[Any]:
    from ddim_core.sampling.device import quiet_import

    with quiet_import():
        from ddim_core.sampling.session import DeviceSession
    from ddim_core.sampling.settings import SamplingSettings

    yield DeviceSession(SamplingSettings(checkpoint=info.folder, slots=2, decode_batch=2), info)


def spec_of(info: CheckpointInfo, prompt: str, seed: int) -> SampleSpec:
    return SampleSpec(
        prompt=prompt,
        negative_prompt="a small circle",
        seed=seed,
        image_index=0,
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        guidance_rescale=0.7,
        eta=0.0,
        height=info.default_height,
        width=info.default_width,
        schedule=info.schedule,
    )


def images_of(session: Any, specs: list[SampleSpec]) -> list[Array]:
    from ddim_core.sampling.ticket import Ticket

    tickets = [Ticket(spec, Future()) for spec in specs]
    outcomes = session.submit(tickets)
    while not session.idle:
        outcomes += session.step()
    for outcome in outcomes:
        outcome.deliver()
    return [ticket.future.result(timeout=0).pixels for ticket in tickets]


def image_of(pipe: Any, spec: SampleSpec, **texts: Any) -> Array:
    import mindspore as ms

    factor = pipe.vae_scale_factor
    latents = initial_noise(spec.seed, 0, (4, spec.height // factor, spec.width // factor))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images, _ = pipe(
            **(texts or {"prompt": spec.prompt, "negative_prompt": spec.negative_prompt}),
            num_inference_steps=spec.num_inference_steps,
            guidance_scale=spec.guidance_scale,
            guidance_rescale=spec.guidance_rescale,
            height=spec.height,
            width=spec.width,
            latents=ms.Tensor(latents[None]),
            output_type="np",
        )
    return (images[0] * 255).round().astype(np.uint8)


def image_by_hand(pipe: Any, spec: SampleSpec) -> Array:
    """Return what mindone's pipeline makes of texts that were encoded window by window."""
    import mindspore as ms

    texts = (spec.prompt, spec.negative_prompt)
    encoded = [encode_windows([(pipe.tokenizer, pipe.text_encoder)], text, spec.windows)[0] for text in texts]
    positive, negative = (ms.Tensor(text[None]) for text in encoded)
    return image_of(
        pipe, spec, prompt=None, negative_prompt=None, prompt_embeds=positive, negative_prompt_embeds=negative
    )


def levels_apart(a: Array, b: Array) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_images_are_those_of_mindone(session: Any, pipe: Any, info: CheckpointInfo) -> None:
    """Same folder, latents and settings: guidance, its rescale, the negative prompt and the VAE mean the same here."""
    specs = [spec_of(info, "a large red star", 1), spec_of(info, "a blue circle on a white background", 2)]
    specs.append(replace(specs[0], guidance_scale=1.0, seed=3))
    for image, spec in zip(images_of(session, specs), specs, strict=True):
        expected = image_of(pipe, spec)
        assert expected.std() > 1, "a picture of one colour would agree with anything"
        assert levels_apart(image, expected) <= LEVELS


def test_a_picture_of_another_size_is_that_of_mindone(session: Any, pipe: Any, info: CheckpointInfo) -> None:
    """Graphs of another shape are compiled when needed; odd numbers of latent pixels pass the network's pooling."""
    factor = info.vae_scale_factor
    spec = replace(spec_of(info, "a red star", 4), height=info.default_height + factor, width=info.default_width * 2)
    [image] = images_of(session, [spec])
    assert image.shape == (spec.height, spec.width, 3)
    assert levels_apart(image, image_of(pipe, spec)) <= LEVELS


def test_a_long_prompt_in_windows_is_that_of_mindone(session: Any, pipe: Any, info: CheckpointInfo) -> None:
    """Given the same text by hand; the words behind the first window show."""
    long = "a large red circle on a white background, best quality, award winning, sharp focus, and a small blue star"
    spec = replace(spec_of(info, long, 6), long_prompts="chunk", windows=2)
    cut = replace(spec, long_prompts="cut", windows=1)
    chunked, other, shorter = images_of(session, [spec, replace(spec, prompt=long[:-9] + "green ring"), cut])
    assert levels_apart(chunked, image_by_hand(pipe, spec)) <= LEVELS
    assert levels_apart(shorter, image_of(pipe, cut)) <= LEVELS
    assert min(levels_apart(chunked, other), levels_apart(chunked, shorter)) > LEVELS


def test_the_drop_in_scheduler_makes_the_same_picture(pipe: Any, info: CheckpointInfo) -> None:
    """One line swaps it into a pipeline of mindone's."""
    from ddim_core.sampling.scheduler import DDIMScheduler

    spec = spec_of(info, "a green square", 5)
    expected, own = image_of(pipe, spec), pipe.scheduler
    try:
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        assert levels_apart(image_of(pipe, spec), expected) <= LEVELS
    finally:
        pipe.scheduler = own
