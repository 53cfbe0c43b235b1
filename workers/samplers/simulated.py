"""A device that is none: it keeps time like one and draws a picture from the request's hash.

It is there to load and to break the queue, the store and the takeover of dead workers on hosts without MindSpore. It
says nothing of the speed, the memory or the errors of a real device, and its pictures show nothing of the prompt.
Prompts that begin with ``sim:`` fail in the ways that requests can, where they fail alone in the real sampler's words.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ddim_core.contracts.sample import BatchShape, Counters, SampledImage, SampleSpec
from ddim_core.errors import (
    DeadlineExceededError,
    DeviceError,
    FleetError,
    NotFiniteError,
    OutOfMemoryError,
    SampleError,
)

FAIL_PROMPT = "sim:fail"
"""A prompt that begins so fails alone."""
NAN_PROMPT = "sim:nan"
"""A prompt that begins so becomes NaN, and fails alone."""
OOM_PROMPT = "sim:oom"
"""A prompt that begins so has no room on the device, and fails alone, as a size does that one slot is too many for."""
BREAK_PROMPT = "sim:break"
"""A prompt that begins so breaks the device: every sample in the batch fails with it."""
KILL_PROMPT = "sim:kill"
"""A prompt that begins so kills the process, as the kernel does when memory runs out."""
SEGV_PROMPT = "sim:segv"
"""A prompt that begins so ends the process by a segmentation fault."""
HANG_PROMPT = "sim:hang"
"""A prompt that begins so stops the device for ever."""
NOISE_PROMPT = "sim:noise"
"""A prompt that begins so gives a picture that does not compress, so that a run is as large as one of photographs."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Running:
    spec: SampleSpec
    image: Future[SampledImage]
    left: int
    deadline_at: float = math.inf
    admitted_at: float = field(default_factory=time.monotonic)


class SimulatedSampler:
    """A ``Sampler`` with ``slots`` slots that are advanced together, one step every ``step_ms``."""

    def __init__(self, *, slots: int, step_ms: float) -> None:
        """Start the device's thread."""
        self._step_s = step_ms / 1000
        self._slots = slots
        self._waiting: queue.Queue[_Running] = queue.Queue(maxsize=4 * slots)
        self._running: list[_Running] = []
        self._closing = threading.Event()
        self._drain = True
        self._steps = 0
        self._images = 0
        self._busy_slot_steps = 0
        self._shapes: set[BatchShape] = set()
        self._thread = threading.Thread(target=self._run, name="simulated-device", daemon=True)
        self._thread.start()

    def prepare(self, shapes: Sequence[BatchShape], *, thresholding: bool = False, inverting: bool = False) -> None:
        """Remember the shapes; there is nothing to compile."""
        self._shapes |= set(shapes)

    def submit(self, spec: SampleSpec, deadline_s: float | None = None) -> Future[SampledImage]:
        """Queue one sample; blocks while as many as four batches wait."""
        image: Future[SampledImage] = Future()
        deadline_at = math.inf if deadline_s is None else time.monotonic() + deadline_s
        self._waiting.put(_Running(spec, image, spec.num_steps, deadline_at))
        return image

    def counters(self) -> Counters:
        """Return the steps and images so far; shapes share a batch here."""
        return Counters(
            images=self._images,
            steps=self._steps,
            full_steps=self._busy_slot_steps / self._slots,
            slots={str(shape): self._slots for shape in sorted(self._shapes)},
        )

    def close(self, *, drain: bool = True) -> None:
        """Stop; with ``drain``, after everything submitted is done."""
        self._drain = drain
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_done():
            self._admit()
            if self._running:
                self._step()
        for sample in [*self._running, *self._left_over()]:
            _fail(sample, CancelledError())

    def _is_done(self) -> bool:
        idle = not self._running and self._waiting.empty()
        return self._closing.is_set() and (idle or not self._drain)

    def _admit(self) -> None:
        while len(self._running) < self._slots:
            try:
                self._running.append(self._waiting.get(block=not self._running, timeout=0.05))
            except queue.Empty:
                return

    def _step(self) -> None:
        time.sleep(self._step_s)
        self._steps += 1
        self._busy_slot_steps += len(self._running)
        for sample in self._running:
            sample.left -= 1
        finished = [sample for sample in self._running if sample.left <= 0]
        self._running = [sample for sample in self._running if sample.left > 0 and not sample.image.cancelled()]
        if any(sample.spec.prompt.startswith(BREAK_PROMPT) for sample in finished):
            return self._break([*finished, *self._running])
        self._drop_late()
        for sample in finished:
            self._images += _finish(sample, self._slots)
        return None

    def _drop_late(self) -> None:
        now = time.monotonic()
        for sample in [sample for sample in self._running if sample.deadline_at < now]:
            self._running.remove(sample)
            _fail(sample, DeadlineExceededError("the image must be there by its deadline, and it was not"))

    def _break(self, batch: list[_Running]) -> None:
        self._running = []
        for sample in batch:
            _fail(sample, DeviceError("the simulated device broke, as its prompt asked"))

    def _left_over(self) -> list[_Running]:
        left = []
        while not self._waiting.empty():
            left.append(self._waiting.get())
        return left


def draw(spec: SampleSpec) -> npt.NDArray[np.uint8]:
    """Return the picture of a request: eight by eight blocks of colour from its hash, shape [height, width, 3]."""
    stream = np.random.Generator(np.random.Philox(int.from_bytes(_digest(spec)[:8], "big")))
    if spec.prompt.startswith(NOISE_PROMPT):
        return stream.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    blocks = stream.integers(0, 256, (8, 8, 3))
    rows = np.arange(spec.height) * 8 // spec.height
    columns = np.arange(spec.width) * 8 // spec.width
    picture: npt.NDArray[np.uint8] = blocks.astype(np.uint8)[rows][:, columns]
    return picture


def _digest(spec: SampleSpec) -> bytes:
    """Return the hash of what a picture is made from: of fields that earlier versions did not have, where used alone.

    So what was asked for before looks as it did.
    """
    text = repr(spec)
    if spec.windows == 1:
        text = text.replace(f", long_prompts={spec.long_prompts!r}, windows={spec.windows!r}", "")
    if spec.schedule.variance == "ddim":
        text = text.replace(f", variance={spec.schedule.variance!r}", "")
    return hashlib.sha256(text.encode()).digest()


def _latents(spec: SampleSpec) -> npt.NDArray[np.float32]:
    """Return noise from the request's hash, of the shape that Stable Diffusion's latents have."""
    stream = np.random.Generator(np.random.Philox(int.from_bytes(_digest(spec)[8:16], "big")))
    return stream.standard_normal((4, spec.height // 8, spec.width // 8), dtype=np.float32)


def _finish(sample: _Running, slots: int) -> bool:
    """End a sample in the way that its prompt asks for; return whether that is an image."""
    _end_process(sample.spec.prompt)
    error = _error_of(sample.spec)
    if error is not None:
        _fail(sample, error)
    elif sample.image.set_running_or_notify_cancel():
        seconds = time.monotonic() - sample.admitted_at
        latents = _latents(sample.spec) if sample.spec.kind == "invert" else None
        sample.image.set_result(SampledImage(draw(sample.spec), seconds, slots, latents=latents))
        return True
    return False


def _end_process(prompt: str) -> None:
    if not prompt.startswith((KILL_PROMPT, SEGV_PROMPT, HANG_PROMPT)):
        return
    log.warning("the simulated device ends its process or hangs, as asked", extra={"action": "simulated_end"})
    if prompt.startswith(KILL_PROMPT):
        os.kill(os.getpid(), signal.SIGKILL)
    if prompt.startswith(SEGV_PROMPT):
        ctypes.string_at(0)
    threading.Event().wait()


def _error_of(spec: SampleSpec) -> FleetError | None:
    """Return how a sample fails alone, in the words of the real sampler where it has some."""
    if spec.prompt.startswith(FAIL_PROMPT):
        return SampleError("the simulated sample failed, as its prompt asked")
    if spec.prompt.startswith(NAN_PROMPT):
        return NotFiniteError("the image must be made of numbers, got NaN or infinity")
    if spec.prompt.startswith(OOM_PROMPT):
        return OutOfMemoryError(f"the device must have memory for one image of {spec.batch_shape}, and it has not")
    return None


def _fail(sample: _Running, exc: BaseException) -> None:
    if sample.image.set_running_or_notify_cancel():  # false if it was cancelled
        sample.image.set_exception(exc)
