"""The sampling loop around a model of a few operators: which pictures share a decoder's batch, and what it reports."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
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
    from ddim_core.contracts.sample import BatchShape, SampleSpec, Size
    from ddim_core.errors import (
        CheckpointError,
        DeadlineExceededError,
        DeviceError,
        FleetError,
        OutOfMemoryError,
        PromptTooLongError,
        SampleError,
    )
    from ddim_core.sampling import decoding as decoding_module
    from ddim_core.sampling import session as session_module
    from ddim_core.sampling.drawing import SampleNoise
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


MOST_LANES = 4
MORE_THAN_THERE_IS = (2**23, 2**22)
OUT_OF_MEMORY = "Device(id:0) memory isn't enough and alloc failed, kernel name: Default/MatMul"


class _Denoiser(ms.nn.Cell):  # type: ignore[name-defined,misc]
    def construct(self, x: Any, timestep: Any, text: Any) -> Any:
        return x * 0.5


class _HungryDenoiser(ms.nn.Cell):  # type: ignore[name-defined,misc]
    """Has no memory for over ``MOST_LANES`` lanes of the wide size or of two windows, and none for the tall one."""

    def construct(self, x: Any, timestep: Any, text: Any) -> Any:
        wide, tall = x.shape[3] > x.shape[2] or text.shape[1] > 2, x.shape[2] > x.shape[3]
        if tall or (wide and x.shape[0] > MOST_LANES):
            x = x + ms.ops.broadcast_to(x.sum().reshape(1, 1), MORE_THAN_THERE_IS).mean()
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

    def check(self, spec: SampleSpec) -> None:
        if spec.prompt == "long":
            raise PromptTooLongError("prompt must have at most 4 tokens, got 9")
        if spec.prompt == "broken":
            raise UnicodeError("surrogates not allowed")

    def conditions(self, specs: Sequence[SampleSpec]) -> list[Any]:
        texts = [ms.Tensor(np.zeros((2 * spec.windows, 3), np.float32)) for spec in specs]
        return [((text,), (text,)) for text in texts]

    def decode(self, latents: Sequence[Any], batch: int) -> Decoding:
        self.batches.append([latent.shape for latent in latents])
        finite = ms.ops.isfinite(ms.ops.stack(list(latents))).all((1, 2, 3))
        return Decoding(ms.ops.zeros((len(latents), 8, 8, 3), ms.uint8), finite, len(latents))


class _BrokenModel(_Model):
    """Answers with NaN, as weights do that overflow."""

    def decode(self, latents: Sequence[Any], batch: int) -> Decoding:
        decoding = super().decode(latents, batch)
        return replace(decoding, finite=ms.ops.logical_not(decoding.finite))


class _HungryModel(_Model):
    """Its decoder has memory for two latents."""

    def __init__(self, info: Any, dtype: str, **options: Any) -> None:
        super().__init__(info, dtype, **options)
        self.denoiser = _HungryDenoiser()

    def decode(self, latents: Sequence[Any], batch: int) -> Decoding:
        if batch > 2:
            raise RuntimeError(OUT_OF_MEMORY)
        return super().decode(latents, batch)


def opened(slots: int = 2, **schedule: Any) -> DeviceSession:
    info = replace(INFO, schedule=replace(INFO.schedule, **schedule))
    return DeviceSession(SamplingSettings(INFO.folder, slots=slots, decode_batch=4, sizes=(Size(16, 16),)), info)


@pytest.fixture(autouse=True)
def _small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "load_model", _Model)


@pytest.fixture(scope="module")
def session() -> Iterator[DeviceSession]:
    """One for all tests that leave it idle: every session compiles anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "load_model", _Model)
        yield opened()


@pytest.fixture(scope="module")
def hungry() -> Iterator[DeviceSession]:
    """A session whose device has little memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "load_model", _HungryModel)
        yield opened(slots=4)


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


def latents_of(session: DeviceSession, monkeypatch: pytest.MonkeyPatch) -> dict[SampleSpec, bytes]:
    """Return where the latents of every sample will be found that reaches its end."""
    found: dict[SampleSpec, bytes] = {}
    take = session._runner.take

    def taking(sample: Any) -> Any:
        latents = take(sample)
        found[sample.job.spec] = latents.asnumpy().tobytes()
        return latents

    monkeypatch.setattr(session._runner, "take", taking)
    return found


def test_a_batch_that_memory_has_no_room_for_is_halved_and_nothing_is_lost(
    hungry: DeviceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of work: of the size that needs it alone, and the samples of both begin anew, with their noise."""
    found = latents_of(hungry, monkeypatch)
    small = [replace(SMALL, seed=seed, eta=0.5) for seed in range(3)]
    wide = [replace(WIDE, seed=seed, eta=seed % 2) for seed in range(9)]
    tickets = submit(hungry, *small)
    assert hungry.step() == []
    tickets += submit(hungry, *wide)
    ended = finish(hungry)
    images = {ticket.spec: ended[ticket].image for ticket in tickets}
    assert {spec: image and image.slots for spec, image in images.items()} == {
        **dict.fromkeys(small, 4),
        **dict.fromkeys(wide, MOST_LANES // 2),
    }
    assert {image.decode_batch for image in images.values() if image} == {2}
    counters = hungry.counters()
    assert counters.slots == {"16x16": 4, "32x16": 2}
    assert counters.memory_shortages == 1 + 2  # of slots once; of the decoder's batch for both sizes
    in_pieces = dict(found)
    submit(hungry, *wide, *small)
    finish(hungry)
    assert in_pieces == found


def test_a_size_that_is_prepared_is_never_out_of_memory_in_its_work(hungry: DeviceSession) -> None:
    """The warm-up finds how many slots it has room for, and compiles for those."""
    begun = hungry.counters()
    hungry.prepare([BatchShape(Size(16, 48))], thresholding=True)
    before = hungry.counters()
    assert before.slots["48x16"] == 2
    assert before.memory_shortages == begun.memory_shortages + 2
    wider = replace(WIDE, width=48)
    thresholding = replace(wider, schedule=replace(INFO.schedule, thresholding=True))
    submit(hungry, *[replace(wider, seed=seed) for seed in range(5)], thresholding)
    assert all(outcome.image is not None for outcome in finish(hungry).values())
    after = hungry.counters()
    assert (after.graphs, after.memory_shortages) == (before.graphs, before.memory_shortages)
    assert after.graphs_since_warm_up == begun.graphs_since_warm_up


def test_a_size_without_room_for_one_slot_fails_alone(hungry: DeviceSession) -> None:
    """A run is not stopped by it when it is opened; its samples are told, and the others get their pictures."""
    tall = replace(SMALL, height=32)
    hungry.prepare([BatchShape(Size(32, 16))], thresholding=False)
    lost, fine = Ticket(tall, Future()), Ticket(SMALL, Future())
    [told] = hungry.submit([lost, fine])
    assert told.ticket is lost
    assert isinstance(told.error, OutOfMemoryError)
    assert str(told.error) == "the device must have memory for one image of 16x32, and it has not"
    assert finish(hungry)[fine].error is None


def test_a_size_that_was_not_prepared_and_has_no_room_ends_with_its_samples(hungry: DeviceSession) -> None:
    """Those that run are told what the device said, those that wait follow, and the other size goes on."""
    taller = replace(SMALL, height=48, num_inference_steps=2)
    *lost, fine = submit(hungry, taller, replace(taller, seed=1), replace(taller, seed=2), SHORT)
    ended = finish(hungry)
    assert {type(ended[ticket].error) for ticket in lost} == {OutOfMemoryError}
    assert ended[fine].error is None


def test_slots_are_fewer_where_the_limit_is_low() -> None:
    """What a batch needed is measured when it is warmed up, and compared with what it may."""
    few = DeviceSession(SamplingSettings(INFO.folder, slots=8, sizes=(Size(16, 16),), memory_limit_bytes=1), INFO)
    assert few.counters().slots == {"16x16": 1}


def test_a_picture_that_is_late_is_dropped_whether_it_runs_or_waits(session: DeviceSession) -> None:
    """And those beside it are not disturbed."""
    now = time.monotonic()
    running, waiting, fine = submit(session, LONG, LONG, SHORT)
    session.step()
    running.deadline_s = waiting.deadline_s = now
    ended = finish(session)
    assert isinstance(ended[running].error, DeadlineExceededError)
    assert isinstance(ended[waiting].error, DeadlineExceededError)
    assert ended[fine].error is None


def test_a_picture_is_read_after_the_next_step_was_launched(session: DeviceSession) -> None:
    """So that a device whose launches return at once has work while the host waits for pixels."""
    model: Any = session._model
    done, _ = submit(session, replace(SHORT, num_inference_steps=1), replace(WIDE, num_inference_steps=50))
    model.batches.clear()
    outcomes: list[list[Outcome]] = []
    while not model.batches:
        outcomes.append(session.step())
    assert [each for each in outcomes if each] == []
    assert [outcome.ticket for outcome in session.step()] == [done]


def test_a_finished_picture_does_not_wait_long_for_company(
    session: DeviceSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a step takes seconds, eight of them are too many."""
    monkeypatch.setattr(decoding_module, "_PATIENCE_S", 0.0)
    done, _ = submit(session, SHORT, LONG)
    ended = [outcome.ticket for _ in range(4) for outcome in session.step()]
    assert ended == [done]


@pytest.mark.parametrize(
    ("error", "kind"), [(ValueError("no such picture"), SampleError), (RuntimeError("launch failed"), DeviceError)]
)
def test_a_sample_whose_start_raises_fails_alone(
    session: DeviceSession, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[FleetError]
) -> None:
    """What it begins with is its own, unless the device said so; the others get their pictures."""
    begin = session._runner.begin_noise

    def begun(spec: SampleSpec) -> SampleNoise:
        if spec.seed == SHORT.seed + 1:
            raise error
        return begin(spec)

    monkeypatch.setattr(session._runner, "begin_noise", begun)
    bad, good = Ticket(replace(SHORT, seed=SHORT.seed + 1), Future()), Ticket(SHORT, Future())
    [failed] = session.submit([bad, good])
    assert failed.ticket is bad and type(failed.error) is kind
    assert finish(session)[good].error is None


@pytest.mark.parametrize(("prompt", "kind"), [("long", PromptTooLongError), ("broken", SampleError)])
def test_a_text_that_cannot_be_encoded_fails_alone(session: DeviceSession, prompt: str, kind: type[FleetError]) -> None:
    """It takes no lane, and its neighbours are encoded in one go, not one by one."""
    bad = Ticket(replace(SHORT, prompt=prompt, long_prompts="refuse"), Future())
    good = [Ticket(replace(SHORT, seed=seed), Future()) for seed in range(2)]
    [failed] = session.submit([good[0], bad, good[1]])
    assert failed.ticket is bad and type(failed.error) is kind
    assert {ended.error for ended in finish(session).values()} == {None}


def test_pictures_of_other_windows_share_a_decoders_batch(session: DeviceSession) -> None:
    """What their texts were is over by then: latents of one size are decoded together."""
    model: Any = session._model
    session.prepare([BatchShape(Size(16, 16), 2)], thresholding=False)
    model.batches.clear()
    once = replace(SHORT, guidance_scale=1.0)
    twice = replace(once, long_prompts="chunk", windows=2)
    submit(session, once)
    assert session.step() == []
    submit(session, twice, replace(twice, seed=1))  # the fuller lanes, so they finish first, and wait
    assert all(outcome.error is None for outcome in finish(session).values())
    assert [len(batch) for batch in model.batches] == [3]
    assert session.counters().slots["16x16/2w"] == 2


def test_windows_that_memory_has_no_room_for_have_fewer_slots_of_their_own(hungry: DeviceSession) -> None:
    """The size keeps its slots where one window is enough; in the middle of work as well as at a warm-up."""
    before = hungry.counters()
    twice = replace(SMALL, long_prompts="chunk", windows=2)
    tickets = submit(hungry, *[replace(twice, seed=seed) for seed in range(5)], SMALL)
    ended = finish(hungry)
    assert [image and image.slots for image in (ended[ticket].image for ticket in tickets)] == [2] * 5 + [4]
    hungry.prepare([BatchShape(Size(16, 16), 3)], thresholding=False)
    after = hungry.counters()
    assert {name: slots for name, slots in after.slots.items() if name.startswith("16x16")} == {
        "16x16": 4,
        "16x16/2w": 2,
        "16x16/3w": 2,
    }
    assert after.memory_shortages == before.memory_shortages + 2
