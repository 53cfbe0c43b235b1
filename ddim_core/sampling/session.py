"""The sampling loop of one device: specs in, images out, one ``step()`` at a time.

Lives in the thread that owns MindSpore; import it after ``device.start``.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice, takewhile
from typing import TypeAlias

from mindspore import Tensor

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.errors import CheckpointError, FleetError, SampleError
from ddim_core.sampling import device
from ddim_core.sampling.engine import Engine, Finished, Sample
from ddim_core.sampling.models.load import load_model
from ddim_core.sampling.runner import DeviceRunner, Job
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.sampling.ticket import Outcome, Ticket

logger = logging.getLogger(__name__)

# A finished sample waits at most this many steps for others to fill the decoder's batch.
_DECODE_PATIENCE_STEPS = 8
# Samples kept at hand beyond the lanes: enough to fill all of them anew, with their texts encoded in one go.
_LOOKAHEAD_PER_LANE = 2


_Sample: TypeAlias = Sample[Job]
_Finished: TypeAlias = Finished[Job, Tensor]


class DeviceSession:
    """One loaded checkpoint on one device, warmed up."""

    def __init__(self, settings: SamplingSettings, info: CheckpointInfo) -> None:
        """Load the networks and compile the graphs for the default size; takes seconds to minutes.

        Raises:
            CheckpointError: The weights cannot be loaded, or make NaN, or the checkpoint's schedule allows no step.
            DeviceError: The device failed, for instance for want of memory.
        """
        self._settings = settings
        self._num_lanes = 2 * settings.slots
        self._model = load_model(info, settings.dtype_on_device, flash_attention=settings.flash_attention)
        self._runner = DeviceRunner(self._model, self._num_lanes)
        self._engine: Engine[Job, Tensor] = Engine(self._runner, self._num_lanes)
        self._tickets: dict[_Sample, Ticket] = {}
        self._undecoded: deque[_Finished] = deque()
        self._undecoded_steps = 0
        self.counts: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._warm_up(info)

    @property
    def room(self) -> int:
        """How many more tickets it would like to have at hand."""
        return _LOOKAHEAD_PER_LANE * self._num_lanes - len(self._engine.waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting, running or to be decoded."""
        return not self._tickets

    def submit(self, tickets: Sequence[Ticket]) -> list[Outcome]:
        """Have the model make the tickets' conditions and queue them; return those that ended as that failed."""
        began = time.monotonic()
        try:
            conditions = self._model.conditions([ticket.spec for ticket in tickets])
        except Exception as error:
            if len(tickets) == 1:
                return self._failed(tickets, _prompt_error(error))
            # One text that cannot be encoded must not take the others along.
            return [outcome for ticket in tickets for outcome in self.submit([ticket])]
        self.seconds["text"] += time.monotonic() - began
        for ticket, (positive, negative) in zip(tickets, conditions, strict=True):
            self._queue(ticket, Job(ticket.spec, positive, negative))
        return []

    def step(self) -> list[Outcome]:
        """Advance all running samples by one timestep; return the tickets that ended."""
        self._drop_cancelled()
        began = time.monotonic()
        try:
            finished = self._engine.step()
        except Exception as error:
            self._runner.reset()
            return self._failed([self._tickets.pop(sample) for sample in self._engine.abort()], error)
        self.seconds["denoise"] += time.monotonic() - began
        refused = [Outcome(self._tickets.pop(f.sample), error=f.error) for f in finished if f.error is not None]
        done = [f for f in finished if f.error is None]
        lanes = self._engine.lanes_in_use + sum(f.sample.num_lanes for f in done)
        self.counts["steps"] += lanes > 0
        self.counts["lane_steps"] += lanes
        self._undecoded.extend(done)
        return refused + self._decode_when_due()

    def unfinished(self) -> list[Ticket]:
        """Return the tickets that have not ended."""
        return list(self._tickets.values())

    def _queue(self, ticket: Ticket, job: Job) -> None:
        spec = ticket.spec
        # As in diffusers: a guidance_scale of 1 or less means no guidance, and one lane instead of two.
        num_lanes = 2 if spec.guidance_scale > 1 else 1
        shape = (spec.height, spec.width)
        sample = Sample(job=job, shape=shape, num_lanes=num_lanes, num_steps=spec.num_inference_steps)
        self._tickets[sample] = ticket
        self._engine.submit(sample)

    def _drop_cancelled(self) -> None:
        for sample in [sample for sample, ticket in self._tickets.items() if ticket.future.cancelled()]:
            self._engine.cancel(sample)
            self._undecoded = deque(finished for finished in self._undecoded if finished.sample is not sample)
            del self._tickets[sample]

    def _decode_when_due(self) -> list[Outcome]:
        self._undecoded_steps = self._undecoded_steps + 1 if self._undecoded else 0
        outcomes: list[Outcome] = []
        while self._undecoded and self._decode_is_due(batch := self._next_batch()):
            for _ in batch:
                self._undecoded.popleft()
            outcomes += self._decode(batch)
        return outcomes

    def _next_batch(self) -> list[_Finished]:
        """Return the first in line and those of its shape that follow, at most a decoder's batch."""
        shape = self._undecoded[0].sample.shape
        alike = takewhile(lambda finished: finished.sample.shape == shape, self._undecoded)
        return list(islice(alike, self._settings.decode_batch))

    def _decode_is_due(self, batch: list[_Finished]) -> bool:
        # A shape's last running sample may be cancelled or fail while others of it wait here; none joins them then.
        joined = any(sample.shape == batch[0].sample.shape for sample in self._engine.running)
        full = len(batch) == self._settings.decode_batch
        return full or not joined or self._undecoded_steps >= _DECODE_PATIENCE_STEPS

    def _decode(self, batch: list[_Finished]) -> list[Outcome]:
        self._undecoded_steps = 0
        tickets = [self._tickets.pop(finished.sample) for finished in batch]
        latents = [finished.result for finished in batch if finished.result is not None]
        began = time.monotonic()
        try:
            decoded = self._model.decode(latents, self._settings.decode_batch)
        except Exception as error:
            return self._failed(tickets, error)
        now = time.monotonic()
        self.seconds["decode"] += now - began
        self.counts["images"] += sum(image.finite for image in decoded)
        return [
            Outcome(ticket, image=SampledImage(image.pixels, now - finished.sample.admitted_s))
            if image.finite
            else Outcome(ticket, error=SampleError("the image must be made of numbers, got NaN or infinity"))
            for ticket, finished, image in zip(tickets, batch, decoded, strict=True)
        ]

    def _failed(self, tickets: Sequence[Ticket], error: Exception) -> list[Outcome]:
        shared = error if isinstance(error, FleetError) else device.device_error(error)
        logger.error(
            "samples failed together", extra={"action": "device_failed", "samples": len(tickets)}, exc_info=error
        )
        return [Outcome(ticket, error=shared) for ticket in tickets]

    def _warm_up(self, info: CheckpointInfo) -> None:
        """Make one picture in as few steps as can be: compiles every graph that a sample of the default size needs."""
        began = time.monotonic()
        try:
            self._model.call_eagerly()
        except Exception as error:
            raise device.device_error(error) from error
        size = {"height": info.default_height, "width": info.default_width}
        steps = 2 if info.schedule.timestep_spacing == "quad" else 1  # quad has no sequence of one timestep
        spec = SampleSpec("", "", 0, 0, steps, 2.0, 0.0, 0.0, schedule=info.schedule, **size)
        outcomes = self.submit([Ticket(spec, Future())])
        while not outcomes:
            outcomes = self.step()
        failure = outcomes[0].error
        if isinstance(failure, SampleError):
            raise CheckpointError(f"the checkpoint in {info.folder} must make pictures, got: {failure}") from failure
        if failure is not None:
            raise failure
        self.counts.clear()
        self.seconds.clear()
        self.seconds["warm_up"] = time.monotonic() - began


def _prompt_error(error: Exception) -> Exception:
    if isinstance(error, (UnicodeError, ValueError, TypeError)):
        return SampleError(f"prompt and negative_prompt must be text that the tokenizer takes, got {error}")
    return error
