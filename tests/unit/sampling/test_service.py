"""The service's queue, futures and thread, around a session that needs no device."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddim_core.checkpoints import CheckpointInfo, resolve
from ddim_core.contracts.sample import BatchShape, Counters, SampledImage, SampleSpec, Size
from ddim_core.errors import CheckpointError, DeadlineExceededError, DeviceError, InputError, SampleError
from ddim_core.sampling.service import SamplingService
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.sampling.ticket import Outcome, Ticket
from ddim_core.schedule import ScheduleConfig

WAIT_S = 10.0


class _PaintingSession:
    """Paints a grey image of the seed's level for two tickets a step, when the test lets it."""

    def __init__(self, settings: SamplingSettings, info: CheckpointInfo) -> None:
        self.tickets: list[Ticket] = []
        self.images = self.steps = 0
        self.prepared: list[tuple[tuple[BatchShape, ...], bool, int]] = []
        self.go = threading.Event()
        self.go.set()
        self.thread = threading.get_ident()
        self.broken = False
        self.stuck = False

    @property
    def room(self) -> int:
        return 0 if self.stuck else 4 - len(self.tickets)

    @property
    def idle(self) -> bool:
        return not self.tickets

    def counters(self) -> Counters:
        return Counters(images=self.images, steps=self.steps, full_steps=self.images / 2, seconds={"warm_up": 0.0})

    def prepare(self, shapes: Sequence[BatchShape], *, thresholding: bool, inverting: bool = False) -> None:
        assert threading.get_ident() == self.thread
        if shapes == (BatchShape(Size(8, 8)),):
            raise DeviceError("no")
        self.prepared.append((tuple(shapes), thresholding, self.steps))

    def submit(self, tickets: Sequence[Ticket]) -> list[Outcome]:
        refused = [ticket for ticket in tickets if ticket.spec.prompt == "refused"]
        self.tickets += [ticket for ticket in tickets if ticket not in refused]
        return [Outcome(ticket, error=SampleError("refused")) for ticket in refused]

    def step(self) -> list[Outcome]:
        assert threading.get_ident() == self.thread
        self.go.wait(WAIT_S)
        if self.broken:
            raise ZeroDivisionError("a fault of ours")
        if self.stuck:
            time.sleep(0.001)
            return []
        done, self.tickets = self.tickets[:2], self.tickets[2:]
        self.images += len(done)
        self.steps += 1
        return [Outcome(ticket, image=SampledImage(self.paint(ticket.spec), 0.0, 2)) for ticket in done]

    def unfinished(self) -> list[Ticket]:
        return self.tickets

    def paint(self, spec: SampleSpec) -> np.ndarray:
        return np.full((spec.height, spec.width, 3), spec.seed % 256, np.uint8)


SPEC = SampleSpec("a", "", 7, 0, 10, 4.0, 0.0, 0.0, 64, 64, ScheduleConfig())


def service_of(**settings: Any) -> tuple[SamplingService, list[_PaintingSession]]:
    sessions: list[_PaintingSession] = []

    def open_session(told: SamplingSettings, info: CheckpointInfo) -> _PaintingSession:
        sessions.append(_PaintingSession(told, info))
        return sessions[0]

    return SamplingService(SamplingSettings(resolve("shapes"), **settings), open_session), sessions


@pytest.fixture
def service() -> Iterator[SamplingService]:
    made, _ = service_of()
    with made:
        yield made


def test_importing_the_service_does_not_import_mindspore() -> None:
    """A worker binds itself to its cores before MindSpore counts them."""
    code = "import sys, ddim_core.sampling.service; sys.exit('mindspore' in sys.modules or 'mindone' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_every_future_gets_its_own_image(service: SamplingService) -> None:
    """Results do not get mixed up, whichever thread asked."""
    results: dict[int, int] = {}

    def ask(first: int) -> None:
        for seed in range(first, first + 20):
            results[seed] = int(service.submit(replace(SPEC, seed=seed)).result(WAIT_S).pixels[0, 0, 0])

    threads = [threading.Thread(target=ask, args=(20 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert results == {seed: seed for seed in range(80)}
    counters = service.counters()
    assert counters.images == 80
    assert 0 < counters.occupancy <= 1


def test_a_refused_sample_fails_alone(service: SamplingService) -> None:
    """Its neighbours get their images."""
    refused, fine = service.submit(replace(SPEC, prompt="refused")), service.submit(SPEC)
    with pytest.raises(SampleError, match="refused"):
        refused.result(WAIT_S)
    assert fine.result(WAIT_S).pixels.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 60}, "height must be a multiple of 8 for this checkpoint, got 60"),
        ({"width": 0}, "width must be a multiple of 8 for this checkpoint, got 0"),
        ({"seed": -1}, "seed must be from 0 to 9223372036854775807, got -1"),
        ({"seed": 2**63}, "seed must be from 0 to 9223372036854775807, got 9223372036854775808"),
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1, got 0"),
        ({"windows": 2}, "windows must be 1 where long prompts are not chunked, got 2"),
        ({"windows": 0, "long_prompts": "chunk"}, "windows must be at least 1, got 0"),
        ({"class_label": 3}, "class_label must be None for a checkpoint that takes prompt, got 3"),
    ],
)
def test_a_spec_that_cannot_be_sampled_is_refused(
    service: SamplingService, changes: dict[str, Any], message: str
) -> None:
    """In the caller's thread, before it can do harm in the one that all share."""
    with pytest.raises(InputError, match=message):
        service.submit(replace(SPEC, **changes))


def test_a_checkpoint_without_texts_has_no_windows(service: SamplingService) -> None:
    """A plan cannot ask for them, and nothing is compiled for them."""
    service.info = replace(service.info, takes="nothing")
    service.prepare([BatchShape(Size(64, 64), windows=2)])
    with pytest.raises(InputError, match=r"^windows must be 1 for a checkpoint that takes nothing, got 2$"):
        service.submit(replace(SPEC, long_prompts="chunk", windows=2))
    assert service.submit(replace(SPEC, long_prompts="chunk")).result(WAIT_S)


def test_submit_blocks_while_the_queue_is_full() -> None:
    """Slow storage slows the submitters and so the engine: memory has a ceiling."""
    service, sessions = service_of(queue_limit=3)
    with service:
        sessions[0].go.clear()
        submitted: list[int] = []

        def ask() -> None:
            for seed in range(30):
                service.submit(replace(SPEC, seed=seed))
                submitted.append(seed)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.3)
        assert 3 <= len(submitted) <= 8  # three in the queue, at most four at hand, one under way
        sessions[0].go.set()
        thread.join(WAIT_S)
        assert len(submitted) == 30


def test_closing_with_drain_finishes_what_was_submitted() -> None:
    """A worker that is told to stop hands over what it was given."""
    service, _ = service_of()
    service.start()
    futures = [service.submit(replace(SPEC, seed=seed)) for seed in range(20)]
    service.close()
    assert [int(future.result(0).pixels[0, 0, 0]) for future in futures] == list(range(20))


def test_closing_without_drain_cancels_the_rest() -> None:
    """Nobody waits for ever on a future of a service that is gone, not even with the queue full."""
    service, sessions = service_of(queue_limit=4)
    service.start()
    sessions[0].go.clear()
    futures = [service.submit(replace(SPEC, seed=seed)) for seed in range(8)]
    threading.Timer(0.2, sessions[0].go.set).start()
    service.close(drain=False)
    ended = [future.cancelled() or bool(future.result(0)) for future in futures]
    assert all(ended)
    with pytest.raises(CancelledError):
        futures[-1].result(0)


def test_a_closed_service_takes_nothing() -> None:
    """And closing twice is no error."""
    service, _ = service_of()
    with service:
        pass
    service.close()
    with pytest.raises(DeviceError, match="must be running to take samples"):
        service.submit(SPEC)


def test_a_cancelled_future_stays_cancelled(service: SamplingService) -> None:
    """Its image, should it come, is thrown away."""
    futures = [service.submit(SPEC) for _ in range(10)]
    cancelled = [future for future in futures if future.cancel()]
    for future in futures:
        assert future in cancelled or future.result(WAIT_S).pixels.any()
    assert service.submit(SPEC).result(WAIT_S).pixels.any()


def test_a_fault_in_the_loop_fails_the_futures() -> None:
    """Whoever waits learns of it, and so does whoever comes later."""
    service, sessions = service_of()
    service.start()
    sessions[0].go.clear()
    future = service.submit(SPEC)
    sessions[0].broken = True
    sessions[0].go.set()
    with pytest.raises(DeviceError, match=r"the sampling thread ended: ZeroDivisionError\('a fault of ours'\)"):
        future.result(WAIT_S)
    service._thread.join(WAIT_S)
    with pytest.raises(DeviceError, match="must be running"):
        service.submit(SPEC)
    service.close()


def test_start_raises_what_opening_the_device_raised() -> None:
    """The caller hears of it in its own thread."""

    def fail(told: SamplingSettings, info: CheckpointInfo) -> _PaintingSession:
        raise CheckpointError("no weights")

    with pytest.raises(CheckpointError, match="no weights"):
        SamplingService(SamplingSettings(resolve("shapes")), fail).start()


def test_a_folder_that_is_no_checkpoint_is_refused_at_once(tmp_path: Path) -> None:
    """Before a thread is started."""
    with pytest.raises(CheckpointError, match=r"a checkpoint must hold model_index\.json"):
        SamplingService(SamplingSettings(tmp_path))


def test_preparing_happens_between_steps_and_before_what_comes_after() -> None:
    """A run's sizes are compiled before its first sample is taken, and each of them once."""
    service, sessions = service_of()
    with service:
        sessions[0].go.clear()
        first = service.submit(SPEC)
        while not sessions[0].tickets:
            time.sleep(0.001)
        wide = BatchShape(Size(64, 96))
        prepared = threading.Thread(target=service.prepare, args=([wide],), kwargs={"thresholding": True})
        prepared.start()
        time.sleep(0.1)
        assert sessions[0].prepared == []
        sessions[0].go.set()
        prepared.join(WAIT_S)
        assert first.result(WAIT_S)
        service.prepare([wide])
        service.prepare([wide], thresholding=True)
        assert sessions[0].prepared == [((wide,), True, 1)]
        service.prepare([wide, wide._replace(windows=2)])
        assert sessions[0].prepared[1:] == [((wide, wide._replace(windows=2)), False, 1)]


def test_the_sizes_of_the_settings_are_compiled_before_any_sample() -> None:
    """The first one with the checkpoint; the others once the service runs, so that its counters show that it moves."""
    service, sessions = service_of(sizes=(Size(64, 64), Size(64, 96), Size(96, 64)))
    with service:
        assert service.submit(SPEC).result(WAIT_S)
        assert sessions[0].prepared == [((BatchShape(Size(64, 96)), BatchShape(Size(96, 64))), False, 0)]


def test_sizes_that_do_not_fit_are_left_out_of_preparing(service: SamplingService) -> None:
    """Their samples are refused one by one, and the run's others are made."""
    service.prepare([BatchShape(Size(60, 64)), BatchShape(Size(0, 64)), BatchShape(Size(64, 64), windows=0)])
    assert service.submit(SPEC).result(WAIT_S)


def test_whoever_prepares_hears_of_the_device(service: SamplingService) -> None:
    """And the service goes on."""
    with pytest.raises(DeviceError, match=r"^no$"):
        service.prepare([BatchShape(Size(8, 8))])
    assert service.submit(SPEC).result(WAIT_S)


def test_a_size_of_the_settings_must_fit_the_checkpoint() -> None:
    """Refused before anything is loaded."""
    with pytest.raises(CheckpointError, match="sizes must be ones that the checkpoint takes, got 100x64 for "):
        SamplingService(SamplingSettings(resolve("shapes"), sizes=(Size(64, 64), Size(64, 100))))


def test_a_sample_whose_deadline_passes_in_the_queue_fails_alone() -> None:
    """It need not wait until the thread comes to it, and its place is free for another."""
    service, sessions = service_of(queue_limit=2)
    with service:
        sessions[0].go.clear()
        others = [service.submit(SPEC)]
        while not sessions[0].tickets:
            time.sleep(0.001)
        late_one = service.submit(SPEC, deadline_s=0.05)
        others.append(service.submit(SPEC))
        time.sleep(0.1)
        sessions[0].stuck = True  # has no room for more
        sessions[0].go.set()
        with pytest.raises(DeadlineExceededError, match="the image must be there by its deadline, and it was not"):
            late_one.result(WAIT_S)
        sessions[0].stuck = False
        assert all(future.result(WAIT_S) for future in others)


def test_a_slow_callback_holds_up_no_step(service: SamplingService) -> None:
    """Callbacks have a thread of their own, from which they may even submit."""
    submitted: list[Future[SampledImage]] = []
    release = threading.Event()

    def call_back(_: Future[SampledImage]) -> None:
        submitted.append(service.submit(replace(SPEC, seed=9)))
        release.wait(WAIT_S)

    service.submit(SPEC).add_done_callback(call_back)
    while not submitted:
        time.sleep(0.01)
    before = service.counters().steps
    others = [service.submit(SPEC) for _ in range(8)]
    deadline = time.monotonic() + WAIT_S
    while service.counters().steps < before + 4:
        assert time.monotonic() < deadline, "the device must not wait for a callback"
        time.sleep(0.01)
    release.set()
    assert submitted[0].result(WAIT_S) and all(future.result(WAIT_S) for future in others)
