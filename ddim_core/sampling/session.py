"""The sampling loop of one device: specs in, images out, one ``step()`` at a time.

Lives in the thread that owns MindSpore; import it after ``device.start``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Hashable, Sequence
from typing import TypeAlias

from mindspore import Tensor

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.contracts.sample import BatchShape, Counters, SampledImage, SampleSpec, Size
from ddim_core.contracts.start import Picture
from ddim_core.errors import (
    CheckpointError,
    FleetError,
    NotFiniteError,
    OutOfMemoryError,
    SampleError,
)
from ddim_core.sampling import device
from ddim_core.sampling.bucket import Sample
from ddim_core.sampling.decoding import DecodeBatches, DecodeLine, Developed
from ddim_core.sampling.drawing import SampleNoise
from ddim_core.sampling.engine import Engine
from ddim_core.sampling.models.load import load_model
from ddim_core.sampling.runner import DeviceRunner, Job
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.sampling.slots import Slots
from ddim_core.sampling.ticket import Outcome, Ticket, late
from ddim_core.sampling.warmup import WarmUp

logger = logging.getLogger(__name__)

# Samples kept at hand beyond the lanes: enough to fill all of them anew, with their texts encoded in one go.
_LOOKAHEAD_PER_LANE = 2
# Of an Ascend device; the rest is the driver's and that of what cannot be measured.
_USABLE_SHARE = 0.92

_Sample: TypeAlias = Sample[Job]


class DeviceSession:
    """One loaded checkpoint on one device, warmed up."""

    def __init__(self, settings: SamplingSettings, info: CheckpointInfo) -> None:
        """Load the networks and compile the graphs for the first shape; takes seconds to minutes.

        Raises:
            CheckpointError: The weights cannot be loaded, or make NaN, or the checkpoint's schedule allows no step.
            DeviceError: The device failed, for instance for want of memory.
        """
        self._num_lanes = 2 * settings.slots
        self._model = load_model(info, settings.dtype_on_device, flash_attention=settings.flash_attention)
        self._runner = DeviceRunner(self._model)
        self._engine: Engine[Job, Tensor] = Engine(self._runner, self._num_lanes)
        self._decode_batches = DecodeBatches(settings.decode_batch)
        self._line = DecodeLine(self._model, self._decode_batches)
        self._tickets: dict[_Sample, Ticket] = {}
        self._images = 0
        self._graphs_before = device.graphs_compiled()
        self._warm_up_graphs = 0
        self._seconds = {"text": 0.0, "encode": 0.0, "denoise": 0.0}
        self._call_once()
        self._slots = _slots(settings)
        self._warm_up = WarmUp(self._model, self._runner, info, slots=self._slots)
        self._compile_first(settings, info)

    @property
    def room(self) -> int:
        """How many more tickets it would like to have at hand."""
        return _LOOKAHEAD_PER_LANE * self._num_lanes - self._engine.waiting

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting, running or to be decoded."""
        return not self._tickets

    def counters(self) -> Counters:
        """Return what was done so far."""
        graphs = device.graphs_compiled() - self._graphs_before
        return Counters(
            images=self._images,
            steps=self._engine.steps,
            full_steps=self._engine.full_steps,
            seconds={**self._seconds, **self._line.seconds, "warm_up": self._warm_up.seconds},
            graphs=graphs,
            graphs_since_warm_up=graphs - self._warm_up_graphs,
            slots={str(shape): slots for shape, slots in list(self._slots.by_shape.items())},
            memory_shortages=self._slots.halved + self._decode_batches.halved,
        )

    def prepare(self, shapes: Sequence[BatchShape], *, thresholding: bool, inverting: bool = False) -> None:
        """Compile what samples of these shapes need, unless that was done.

        Where that fails for want of memory, or with NaN, the samples of the shape will fail, and are told so then.

        Raises:
            DeviceError: The device failed for another reason.
        """
        for shape in shapes:
            try:
                self._compile(shape, thresholding=thresholding, inverting=inverting)
            except (SampleError, OutOfMemoryError) as error:
                extra = {"action": "size_unfit", "size": str(shape), "error": str(error)}
                logger.warning("no picture of a size could be made", extra=extra)

    def submit(self, tickets: Sequence[Ticket]) -> list[Outcome]:
        """Have the model make the tickets' conditions and queue them; return those that ended as that failed."""
        began = time.monotonic()
        refused = {ticket: error for ticket in tickets if (error := self._refusal(ticket.spec)) is not None}
        self._seconds["text"] += time.monotonic() - began
        outcomes = [Outcome(ticket, error=error) for ticket, error in refused.items()]
        return outcomes + self._encode_and_queue([ticket for ticket in tickets if ticket not in refused])

    def step(self) -> list[Outcome]:
        """Advance the running samples of one shape by one timestep; return the tickets that ended."""
        outcomes = self._drop_unwanted()
        outcomes += self._denoise()
        developed = self._line.advance(runs=self._runs_alike, busy=self._engine.waiting + self._engine.running > 0)
        return outcomes + self._images_of(developed)

    def unfinished(self) -> list[Ticket]:
        """Return the tickets that have not ended."""
        return list(self._tickets.values())

    def _call_once(self) -> None:
        try:
            self._model.call_eagerly()
        except Exception as error:
            raise device.device_error(error) from error

    def _compile_first(self, settings: SamplingSettings, info: CheckpointInfo) -> None:
        try:
            first = settings.sizes[0] if settings.sizes else Size(info.default_height, info.default_width)
            self._compile(BatchShape(first), thresholding=info.schedule.thresholding)
        except SampleError as error:
            raise CheckpointError(f"the checkpoint in {info.folder} must make pictures, got: {error}") from error

    def _compile(self, shape: BatchShape, *, thresholding: bool, inverting: bool = False) -> None:
        before = device.graphs_compiled()
        try:
            for variant in sorted({False, thresholding}):
                self._warm_up.prepare(shape, self._decode_batches, thresholding=variant)
            if inverting:
                self._warm_up.prepare_encoder(shape.size)
        finally:
            self._warm_up_graphs += device.graphs_compiled() - before
        self._engine.resize(shape, 2 * self._slots.of(shape))

    def _refusal(self, spec: SampleSpec) -> SampleError | None:
        """Return what is wrong with a sample's texts, which fails it alone."""
        try:
            self._model.check(spec)
        except SampleError as error:
            return error
        except (UnicodeError, ValueError, TypeError) as error:
            return SampleError(f"prompt and negative_prompt must be text that the tokenizer takes, got {error}")
        return None

    def _encode_and_queue(self, tickets: Sequence[Ticket]) -> list[Outcome]:
        began = time.monotonic()
        try:
            conditions = self._model.conditions([ticket.spec for ticket in tickets])
        except Exception as error:
            if len(tickets) == 1:
                return self._failed(tickets, error)
            # One text that cannot be encoded must not take the others along.
            return [outcome for ticket in tickets for outcome in self._encode_and_queue([ticket])]
        self._seconds["text"] += time.monotonic() - began
        outcomes = []
        for ticket, (positive, negative) in zip(tickets, conditions, strict=True):
            try:
                self._queue(ticket, Job(ticket.spec, positive, negative, self._begin(ticket.spec)))
            except FleetError as error:
                outcomes.append(Outcome(ticket, error=error))
        return outcomes

    def _queue(self, ticket: Ticket, job: Job) -> None:
        shape = ticket.spec.batch_shape
        self._slots.check(shape)
        self._engine.resize(shape, 2 * self._slots.of(shape))
        sample = job.sample(shape)
        self._tickets[sample] = ticket
        self._engine.submit(sample)

    def _begin(self, spec: SampleSpec) -> SampleNoise:
        began = time.monotonic()
        try:
            return self._runner.begin_noise(spec)
        except Exception as error:
            raise _start_error(error) from error
        finally:
            if isinstance(spec.start, Picture):
                self._seconds["encode"] += time.monotonic() - began

    def _drop_unwanted(self) -> list[Outcome]:
        """Drop the samples that were cancelled, or whose deadline has passed; return the latter."""
        now = time.monotonic()
        unwanted = {s: t for s, t in self._tickets.items() if t.future.cancelled() or t.deadline_s <= now}
        for sample in unwanted:
            self._engine.cancel(sample)
            del self._tickets[sample]
        if unwanted:
            self._line.remove(set(unwanted))
        return [late(ticket) for ticket in unwanted.values() if not ticket.future.cancelled()]

    def _denoise(self) -> list[Outcome]:
        began = time.monotonic()
        try:
            finished = self._engine.step()
        except Exception as error:
            self._runner.reset()
            no_memory = device.is_out_of_memory(error)
            if no_memory and self._halve_slots():
                return []
            lost = self._engine.abort(waiting=no_memory)  # with one slot: those that wait would fare no better
            return self._failed([self._tickets.pop(sample) for sample in lost], error)
        self._seconds["denoise"] += time.monotonic() - began
        self._line.add([f for f in finished if f.error is None])
        return [Outcome(self._tickets.pop(f.sample), error=f.error) for f in finished if f.error is not None]

    def _runs_alike(self, shape: Hashable) -> bool:
        """Return whether samples run that can be decoded together with those of a shape: any of its size."""
        assert isinstance(shape, BatchShape)
        return any(self._engine.runs(other) for other in self._slots.by_shape if other.size == shape.size)

    def _halve_slots(self) -> bool:
        """Give the shape whose step failed half of its slots, and have all samples begin anew; False where it has one.

        The samples of other shapes begin anew too: what they had on the device may have been lost in the same failure.
        Where launches return at once, it may be that of an earlier step of another shape. Then this one is halved in
        vain, and the other one as soon as it fails again.
        """
        shape = self._engine.turn
        assert isinstance(shape, BatchShape)
        if not self._slots.halve(shape):
            return False
        device.release_memory()
        self._engine.restart()
        self._engine.resize(shape, 2 * self._slots.of(shape))
        return True

    def _images_of(self, developed: Sequence[Developed]) -> list[Outcome]:
        """Return the outcomes of samples that somebody still waits for."""
        awaited = [each for each in developed if each.finished.sample in self._tickets]
        outcomes = [self._outcome(self._tickets[each.finished.sample], each) for each in awaited]
        for each in awaited:  # only now: had one of them raised, none would be lost to ``unfinished``
            del self._tickets[each.finished.sample]
        return outcomes

    def _outcome(self, ticket: Ticket, developed: Developed) -> Outcome:
        if developed.image is None:
            assert developed.error is not None
            return self._failed([ticket], developed.error)[0]
        if not developed.image.finite:
            return Outcome(ticket, error=NotFiniteError("the image must be made of numbers, got NaN or infinity"))
        self._images += 1
        sample = developed.finished.sample
        seconds = time.monotonic() - sample.admitted_s
        latents = sample.job.kept.read()
        slots = sample.batch_lanes // 2
        return Outcome(ticket, SampledImage(developed.image.pixels, seconds, slots, developed.batch, latents))

    def _failed(self, tickets: Sequence[Ticket], error: Exception) -> list[Outcome]:
        shared = error if isinstance(error, FleetError) else device.device_error(error)
        logger.error(
            "samples failed together", extra={"action": "device_failed", "samples": len(tickets)}, exc_info=error
        )
        return [Outcome(ticket, error=shared) for ticket in tickets]


def _slots(settings: SamplingSettings) -> Slots:
    """Return the slots within the device's memory, which Ascend tells only once something ran on it."""
    device.reset_peak_memory()
    base_bytes = device.peak_memory_bytes()
    total_bytes = device.total_memory_bytes()
    if settings.device != "CPU" and total_bytes is None and settings.memory_limit_bytes is None:
        extra = {"action": "memory_unknown", "device": settings.device, "slots": settings.slots}
        logger.warning("the device does not tell its memory; --slots and failures alone bound a batch", extra=extra)
    limit_bytes = settings.memory_limit_bytes or (None if total_bytes is None else int(_USABLE_SHARE * total_bytes))
    return Slots(settings.slots, base_bytes=base_bytes, limit_bytes=limit_bytes)


def _start_error(error: Exception) -> FleetError:
    if isinstance(error, FleetError):
        return error
    if isinstance(error, (ValueError, TypeError)):  # what a sample begins with is its own
        return SampleError(f"the sample must have a start that can be made, got {error}")
    return device.device_error(error)
