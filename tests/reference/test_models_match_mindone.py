"""Stable Diffusion XL, DiT and unconditional pixels against mindone's own pipelines, on small random checkpoints."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddim_core.checkpoints import CheckpointInfo, describe
from ddim_core.contracts.sample import SampleSpec
from ddim_core.errors import SampleError
from ddim_core.sampling.noise import initial_noise
from tests.reference.by_hand import encode_windows
from tests.tiny_checkpoints import WRITERS

pytestmark = [pytest.mark.mindspore, pytest.mark.slow, pytest.mark.usefixtures("cpu")]

Array = np.ndarray[Any, Any]

STEPS = 4
# As in test_pipeline_matches_mindone: about 1e-6 in the latents moves a value across the border of two levels.
LEVELS = 1


@dataclass(frozen=True)
class Studio:
    """A checkpoint of one kind, in our sampling loop and in mindone's pipeline."""

    kind: str
    info: CheckpointInfo
    session: Any
    pipe: Any


@pytest.fixture(scope="module", params=WRITERS)
def studio(request: pytest.FixtureRequest, cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Compile one kind after another; two slots."""
    from ddim_core.sampling.device import quiet_import

    with quiet_import():
        from ddim_core.sampling.session import DeviceSession
    from ddim_core.sampling.settings import SamplingSettings

    folder = tmp_path_factory.mktemp(request.param)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        info = describe(WRITERS[request.param](folder))
    session = DeviceSession(SamplingSettings(checkpoint=folder, slots=2, decode_batch=2), info)
    yield Studio(request.param, info, session, pipeline(folder))


def pipeline(folder: Path) -> Any:
    from ddim_core.sampling.device import quiet_import

    with quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mindone.diffusers import DiffusionPipeline

        pipe = DiffusionPipeline.from_pretrained(str(folder), use_safetensors=True, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def specs_of(studio: Studio) -> list[SampleSpec]:
    """Return a sample with guidance, one with another condition, and one without guidance, where the kind has them."""
    info = studio.info
    first = SampleSpec(
        prompt="a large red star" if info.takes == "prompt" else "",
        negative_prompt="a small circle" if info.takes == "prompt" else "",
        seed=1,
        image_index=0,
        num_inference_steps=STEPS,
        guidance_scale=4.0 if info.takes != "nothing" else 1.0,
        guidance_rescale=0.0,
        eta=0.0,
        height=info.default_height,
        width=info.default_width,
        schedule=info.schedule,
        class_label=2 if info.takes == "class_label" else None,
    )
    other = replace(first, seed=2, num_inference_steps=STEPS + 1)
    if info.takes == "prompt":
        other = replace(other, prompt="a blue circle", negative_prompt="")
    if info.takes == "class_label":
        other = replace(other, class_label=999)
    return [first, other, replace(first, seed=3, guidance_scale=1.0)]


def outcomes_of(studio: Studio, specs: list[SampleSpec]) -> list[Any]:
    from ddim_core.sampling.ticket import Ticket

    tickets = [Ticket(spec, Future()) for spec in specs]
    outcomes = studio.session.submit(tickets)
    while not studio.session.idle:
        outcomes += studio.session.step()
    by_ticket = {outcome.ticket: outcome for outcome in outcomes}
    return [by_ticket[ticket] for ticket in tickets]


def images_of(studio: Studio, specs: list[SampleSpec]) -> list[Array]:
    outcomes = outcomes_of(studio, specs)
    assert [outcome.error for outcome in outcomes] == [None] * len(specs)
    return [outcome.image.pixels for outcome in outcomes]


def reference(studio: Studio, spec: SampleSpec, monkeypatch: pytest.MonkeyPatch, **texts: Any) -> Array:
    """Return what mindone's pipeline makes of the same noise."""
    import mindspore as ms
    from mindone.diffusers import DDIMScheduler
    from mindone.diffusers.pipelines.ddim import pipeline_ddim
    from mindone.diffusers.pipelines.dit import pipeline_dit

    info, pipe = studio.info, studio.pipe
    factor = info.vae_scale_factor
    shape = (info.latent_channels, spec.height // factor, spec.width // factor)
    x = ms.Tensor(initial_noise(spec.seed, 0, shape)[None])
    for module in (pipeline_dit, pipeline_ddim):
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: x)
    config = {name: value for name, value in spec.schedule.to_mapping().items() if name != "timestep_pairs"}
    pipe.scheduler = DDIMScheduler.from_config(config)
    options: dict[str, Any] = {"num_inference_steps": spec.num_inference_steps, "output_type": "np"}
    if studio.kind != "unconditional":
        options["guidance_scale"] = spec.guidance_scale
    if studio.kind == "sdxl":
        options |= texts or {"prompt": spec.prompt, "negative_prompt": spec.negative_prompt or None}
        options |= {"latents": x}
        options |= {"height": spec.height, "width": spec.width}
    if studio.kind == "dit":
        options["class_labels"] = [spec.class_label]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = pipe(**options)[0]
    return (images[0] * 255).round().astype(np.uint8)


def levels_apart(a: Array, b: Array) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_images_are_those_of_mindone(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Conditions, guidance, what is cut off the output, clipping and the way to pixels mean the same here."""
    specs = specs_of(studio)
    images = images_of(studio, specs)
    for image, spec in zip(images, specs, strict=True):
        expected = reference(studio, spec, monkeypatch)
        assert expected.std() > 1, "a picture of one colour would agree with anything"
        assert levels_apart(image, expected) <= LEVELS
    assert levels_apart(images[0], images[1]) > LEVELS


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_every_prediction_type_gives_the_image_of_mindone(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, prediction_type: str
) -> None:
    """What the network predicts is a matter of the schedule, whatever the kind."""
    spec = specs_of(studio)[0]
    spec = replace(spec, schedule=replace(spec.schedule, prediction_type=prediction_type))
    [image] = images_of(studio, [spec])
    assert levels_apart(image, reference(studio, spec, monkeypatch)) <= LEVELS


@pytest.mark.parametrize("studio", ["sdxl"], indirect=True)
def test_a_long_prompt_in_windows_is_that_of_mindone(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the same texts by hand: both encoders in windows, pooled text of the first."""
    import mindspore as ms

    long = "a large red circle on a white background, best quality, award winning, sharp focus, and a small blue star"
    spec = replace(specs_of(studio)[0], prompt=long, long_prompts="chunk", windows=2)
    pipe = studio.pipe
    encoders = [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)]
    names = [f"{kind}prompt_embeds" for kind in ("", "pooled_", "negative_", "negative_pooled_")]
    arrays = [part for text in (long, spec.negative_prompt) for part in encode_windows(encoders, text, 2)]
    texts = {name: ms.Tensor(array[None]) for name, array in zip(names, arrays, strict=True)}
    chunked, other = images_of(studio, [spec, replace(spec, prompt=long[:-9] + "green ring")])
    assert levels_apart(chunked, reference(studio, spec, monkeypatch, **texts)) <= LEVELS
    assert levels_apart(chunked, other) > LEVELS


def test_bytes_are_the_same_alone_and_in_a_mix(studio: Studio) -> None:
    """Conditions are gathered lane by lane: no neighbour's may leak into another's."""
    specs = specs_of(studio)
    together = images_of(studio, [*specs, replace(specs[0], seed=9)])
    for image, spec in zip(together, specs, strict=False):
        [alone] = images_of(studio, [spec])
        assert alone.tobytes() == image.tobytes()


def test_a_sample_that_is_nan_fails_alone(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither norms nor attention may carry it over to its neighbours, to the bit."""
    from ddim_core.sampling import drawing

    specs = specs_of(studio)
    [expected] = images_of(studio, [specs[1]])
    draw = drawing.initial_noise
    monkeypatch.setattr(
        drawing, "initial_noise", lambda seed, *key: draw(seed, *key) * np.float32(np.nan if seed == 1 else 1)
    )
    failed, made = outcomes_of(studio, specs[:2])
    assert isinstance(failed.error, SampleError)
    assert made.image.pixels.tobytes() == expected.tobytes()


def test_one_channel_is_written_as_grey(cpu: None) -> None:
    """Pictures are RGB for all that comes after; NaN in one shows at that one alone."""
    import mindspore as ms

    from ddim_core.sampling.models.decoder import PixelDecoder, decode

    x = np.linspace(-1.5, 1.5, 32, dtype=np.float32).reshape(2, 1, 4, 4)
    x[1, 0, 0, 0] = np.nan
    first, second = decode(PixelDecoder(), [ms.Tensor(latents) for latents in x], 2).read()
    expected = (np.clip(x[0, 0] / 2 + 0.5, 0, 1) * 255).round().astype(np.uint8)
    assert (first.pixels == expected[..., None]).all() and first.pixels.shape == (4, 4, 3)
    assert (first.finite, second.finite) == (True, False)
