"""Interpolations, traces and inversions on the packaged checkpoint: the bytes of plain images where they must be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mindspore")

from ddim_core.checkpoints import describe, resolve
from ddim_core.contracts.sample import BatchShape, SampledImage, SampleSpec, Size
from ddim_core.contracts.start import Between, Picture
from ddim_core.errors import InputError
from ddim_core.sampling.service import SamplingService
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.schedule import Glimpse, RoundTrip
from tools.shapes import caption, draw, scenes

pytestmark = [pytest.mark.mindspore, pytest.mark.slow, pytest.mark.timeout(900)]

INFO = describe(resolve("shapes"))
WAIT_S = 240.0
SCENE = scenes(held_out=True)[5]
PIXELS = draw(SCENE)
SIZE = Size(INFO.default_height, INFO.default_width)
PLAIN = SampleSpec("a large red star on a white background", "", 3, 0, 6, 2.0, 0.7, 0.0, *SIZE, INFO.schedule)
INVERSION = replace(
    PLAIN, prompt=caption(SCENE), guidance_scale=1.0, start=Picture("inputs/a.png", PIXELS), path=RoundTrip()
)


@pytest.fixture(scope="module")
def service() -> Iterator[SamplingService]:
    """Give a service that is ready for inversions."""
    with SamplingService(SamplingSettings(INFO.folder, slots=2, decode_batch=2)) as service:
        service.prepare([BatchShape(SIZE)], inverting=True)
        yield service


def make(service: SamplingService, *specs: SampleSpec) -> list[SampledImage]:
    return [future.result(WAIT_S) for future in [service.submit(spec) for spec in specs]]


def error_of(image: SampledImage) -> float:
    return float(np.mean(((PIXELS.astype(np.float64) - image.pixels) / 255) ** 2))


def test_the_ends_of_an_interpolation_are_the_images_of_its_seeds(service: SamplingService) -> None:
    """To the byte, in any company; what lies between is neither."""
    frames = [replace(PLAIN, start=Between(8, fraction)) for fraction in (0.0, 0.5, 1.0)]
    first, middle, last, own, other = make(service, *frames, PLAIN, replace(PLAIN, seed=8))
    assert first.pixels.tobytes() == own.pixels.tobytes()
    assert last.pixels.tobytes() == other.pixels.tobytes()
    assert len({image.pixels.tobytes() for image in (first, middle, last)}) == 3


@pytest.mark.parametrize(("eta", "variance"), [(0.0, "ddim"), (1.0, "ddim"), (1.0, "larger")])
def test_the_last_frame_of_a_trace_is_the_image(service: SamplingService, eta: float, variance: str) -> None:
    """To the byte, fresh noise and all; earlier frames are pictures of their own, and not noise."""
    plain = replace(PLAIN, eta=eta, schedule=replace(PLAIN.schedule, variance=variance))
    *frames, image = make(service, *(replace(plain, path=Glimpse(steps)) for steps in (1, 3, 6)), plain)
    assert frames[-1].pixels.tobytes() == image.pixels.tobytes()
    away = [float(np.abs(frame.pixels.astype(int) - image.pixels).mean()) for frame in frames]
    assert all(1 < levels < 20 for levels in away[:2])  # noise, decoded, is 60 levels and more away


def test_an_inverted_picture_is_made_again_from_its_noise(service: SamplingService) -> None:
    """More steps come nearer, the picture is another sample's neighbour without a trace, and no graph is compiled."""
    coarse, fine, plain = make(service, INVERSION, replace(INVERSION, num_inference_steps=20), PLAIN)
    assert error_of(fine) < error_of(coarse) < 2e-3
    assert error_of(fine) < 4e-4  # of which the VAE makes half
    (alone,) = make(service, INVERSION)
    assert alone.pixels.tobytes() == coarse.pixels.tobytes()
    assert alone.latents is not None and coarse.latents is not None and plain.latents is None
    assert alone.latents.tobytes() == coarse.latents.tobytes()
    assert alone.latents.shape == (INFO.latent_channels, SIZE.height // 8, SIZE.width // 8)
    assert 0.3 < alone.latents.std() < 1.5  # it is close to noise, and would be a photograph's latents otherwise
    assert service.counters().graphs_since_warm_up == 0


def test_guidance_takes_the_way_down_further_from_the_way_up(service: SamplingService) -> None:
    """It works in two lanes as well, and costs what the documentation says."""
    plain, guided = make(service, INVERSION, replace(INVERSION, guidance_scale=3.0))
    assert guided.latents is not None and error_of(guided) > error_of(plain)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (Picture("inputs/a.png"), "a picture must have pixels of shape .*, got none"),
        (
            Picture("inputs/a.png", PIXELS[:8]),
            r"a picture must have pixels of shape \(64, 64, 3\), got shape \(8, 64, 3\)",
        ),
    ],
)
def test_a_picture_that_does_not_fit_is_refused(service: SamplingService, start: Picture, message: str) -> None:
    """Before it comes to the thread that others' samples depend on."""
    with pytest.raises(InputError, match=message):
        service.submit(replace(INVERSION, start=start))
