"""The sampling loop around a model of a few operators: which pictures share a decoder's batch, and what it reports."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
from ddim_core.sampling import device  # noqa: E402 - needs MindSpore

device.start("CPU")  # before anything imports mindone
with device.quiet_import():
    from ddim_core.checkpoints import describe, resolve
    from ddim_core.contracts.sample import SampleSpec
    from ddim_core.errors import CheckpointError
    from ddim_core.sampling import session as session_module
    from ddim_core.sampling.models.model import Decoding
    from ddim_core.sampling.session import DeviceSession
    from ddim_core.sampling.settings import SamplingSettings
    from ddim_core.sampling.ticket import Outcome, Ticket

pytestmark = pytest.mark.mindspore

INFO = describe(resolve("shapes"))
FACTOR = INFO.vae_scale_factor
SMALL = SampleSpec("a", "", 7, 0, 4, 4.0, 0.0, 0.0, 16, 16, INFO.schedule)
WIDE = replace(SMALL, width=32)
SHORT, LONG = replace(SMALL, num_inference_steps=2), replace(SMALL, num_inference_steps=50)
MOST_STEPS = 100


class _Denoiser(ms.nn.Cell):  # type: ignore[name-defined,misc]
    def construct(self, x: Any, timestep: Any, text: Any) -> Any:
        return x * 0.5


class _Model:
    """Takes the place of a checkpoint's networks."""

    def __init__(self, info: Any, dtype: str, **options: Any) -> None:
        self.denoiser = _Denoiser()
        self.batches: list[list[tuple[int, ...]]] = []

    def call_eagerly(self) -> None:
        """Do nothing: the denoiser compiles in any thread."""

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 4, height // FACTOR, width // FACTOR

    def conditions(self, specs: Sequence[SampleSpec]) -> list[Any]:
        text = ms.Tensor(np.zeros((2, 3), np.float32))
        return [((text,), (text,))] * len(specs)

    def decode(self, latents: Sequence[Any], batch: int) -> Decoding:
        self.batches.append([latent.shape for latent in latents])
        finite = ms.ops.isfinite(ms.ops.stack(list(latents))).all((1, 2, 3))
        return Decoding(ms.ops.zeros((len(latents), 8, 8, 3), ms.uint8), finite, len(latents))


class _BrokenModel(_Model):
    """Answers with NaN, as weights do that overflow."""

    def decode(self, latents: Sequence[Any], batch: int) -> Decoding:
        decoding = super().decode(latents, batch)
        return replace(decoding, finite=ms.ops.logical_not(decoding.finite))


def opened(**schedule: Any) -> DeviceSession:
    info = replace(INFO, schedule=replace(INFO.schedule, **schedule))
    return DeviceSession(SamplingSettings(INFO.folder, slots=2, decode_batch=4), info)


@pytest.fixture(autouse=True)
def _small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "load_model", _Model)


@pytest.fixture
def session() -> DeviceSession:
    return opened()


def submit(session: DeviceSession, *specs: SampleSpec) -> list[Ticket]:
    tickets = [Ticket(spec, Future()) for spec in specs]
    assert session.submit(tickets) == []
    return tickets


def finish(session: DeviceSession) -> dict[Ticket, Outcome]:
    """Step until nothing is left; return how each ticket ended."""
    outcomes: list[Outcome] = []
    for _ in range(MOST_STEPS):
        outcomes += session.step()
        if session.idle:
            return {outcome.ticket: outcome for outcome in outcomes}
    raise AssertionError(f"still busy after {MOST_STEPS} steps")


def test_pictures_of_two_shapes_are_not_decoded_together_after_a_cancellation(session: DeviceSession) -> None:
    """A finished picture waits for company; when the one it waits for is cancelled, the next shape's must not join."""
    done, endless, wide = submit(session, SHORT, LONG, WIDE)
    assert session.step() + session.step() == []
    assert endless.future.cancel()
    ended = finish(session)
    assert {ended[ticket].error for ticket in (done, wide)} == {None}
    assert endless not in ended


def test_pictures_of_two_shapes_are_not_decoded_together_after_a_device_failure(
    session: DeviceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished before the failure is decoded by itself, and not kept waiting."""
    done, lost, wide = submit(session, SHORT, LONG, WIDE)
    assert session.step() + session.step() == []
    runner = session._runner
    with monkeypatch.context() as patch:
        patch.setattr(runner, "advance", _fail)
        assert [outcome.ticket for outcome in session.step()] == [lost]
    ended = finish(session)
    assert {ended[ticket].error for ticket in (done, wide)} == {None}


def _fail(running: object) -> None:
    raise RuntimeError("Kernel launch failed")


def test_pictures_of_one_shape_share_a_batch(session: DeviceSession) -> None:
    """The decoder's cost is that of its whole batch, so finished pictures wait a few steps to fill it."""
    model: Any = session._model
    model.batches.clear()
    finish_together = submit(
        session, *[replace(SMALL, guidance_scale=1.0, num_inference_steps=n) for n in (2, 3, 4, 5)]
    )
    assert all(outcome.error is None for outcome in finish(session).values())
    assert [len(batch) for batch in model.batches] == [len(finish_together)]


def test_a_pictures_seconds_do_not_count_its_wait_for_lanes(session: DeviceSession) -> None:
    """They are what the device took; the queue before it is another figure."""
    tickets = submit(session, SMALL, SMALL, SMALL)
    time.sleep(0.1)
    began = time.monotonic()
    ended = finish(session)
    images = [ended[ticket].image for ticket in tickets]
    assert all(image is not None and 0 < image.seconds <= time.monotonic() - began for image in images)


def test_a_checkpoint_whose_schedule_allows_no_step_is_refused_with_the_schedules_words() -> None:
    """Its weights are fine: who is told of NaN looks in the wrong place."""
    message = f"the checkpoint in {INFO.folder} must make pictures, got: prediction_type must be v_prediction or sample"
    with pytest.raises(CheckpointError, match=re.escape(message)):
        opened(prediction_type="epsilon", rescale_betas_zero_snr=True, timestep_spacing="trailing")


def test_a_checkpoint_that_makes_nan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a run is started with it."""
    monkeypatch.setattr(session_module, "load_model", _BrokenModel)
    with pytest.raises(CheckpointError, match="must make pictures, got: the image must be made of numbers, got NaN"):
        opened()


def test_a_checkpoint_with_quadratic_timesteps_is_warmed_up() -> None:
    """They have no sequence of one step, so the first picture takes two."""
    assert opened(timestep_spacing="quad", timestep_pairs="visited").idle
