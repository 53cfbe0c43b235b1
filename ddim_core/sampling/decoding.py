"""Finished latents on their way to pixels: together where their shapes agree, launched now and read later."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TypeAlias

from mindspore import Tensor

from ddim_core.sampling.device import is_out_of_memory, release_memory
from ddim_core.sampling.engine import Finished
from ddim_core.sampling.models.model import Decoded, Decoding, Model
from ddim_core.sampling.runner import Job

logger = logging.getLogger(__name__)

FinishedJob: TypeAlias = Finished[Job, Tensor]

# Finished latents wait for others to fill the decoder's batch, at most so many steps and so long.
_PATIENCE_STEPS = 8
_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Developed:
    """What became of finished latents: an image, or an error that those decoded together share."""

    finished: FinishedJob
    image: Decoded | None = None
    error: Exception | None = None
    batch: int = 1
    """How many latents the decoder had room for."""


class DecodeBatches:
    """How many latents of a shape are decoded together."""

    def __init__(self, most: int) -> None:
        """Begin with ``most`` for every shape."""
        self._most = most
        self._less: dict[tuple[int, ...], int] = {}
        self.halved = 0
        """How often one of them had to become smaller."""

    def of(self, finished: FinishedJob) -> int:
        """Return the batch for latents such as these."""
        return self._less.get(_latent_shape(finished), self._most)

    def halve(self, finished: FinishedJob) -> bool:
        """Decode half as many latents such as these together; False where it is one already."""
        batch = self.of(finished) // 2
        if batch == 0:
            return False
        self._less[_latent_shape(finished)] = batch
        self.halved += 1
        release_memory()
        logger.warning(
            "the decoder's batch was halved for want of memory",
            extra={"action": "decode_batch_halved", "latents": _latent_shape(finished), "batch": batch},
        )
        return True


@dataclass(frozen=True, slots=True)
class _Launched:
    batch: list[FinishedJob]
    room: int
    decoding: Decoding


class DecodeLine:
    """Batches of latents of one shape each, first come, first served.

    Launches return at once: a batch is read a step after its launch, when the next denoising step is in the device's
    queue already, so that the device does not wait for the host. The CPU runs one graph at a time, in the order of
    their launches, so nothing overlaps there: what is read waits for the step behind it, too, and the seconds of
    ``read`` are in part those of a step.
    """

    def __init__(self, model: Model, batches: DecodeBatches) -> None:
        self._model = model
        self._batches = batches
        self._waiting: deque[FinishedJob] = deque()
        self._waiting_steps = 0
        self._waiting_since_s = 0.0
        self._launched: deque[_Launched] = deque()
        self.seconds = {"decode": 0.0, "read": 0.0}

    def __len__(self) -> int:
        """Return how many latents wait, or are being decoded."""
        return len(self._waiting) + sum(len(launched.batch) for launched in self._launched)

    def add(self, finished: Sequence[FinishedJob]) -> None:
        """Take latents into the line."""
        if finished and not self._waiting:
            self._begin_to_wait()
        self._waiting.extend(finished)

    def remove(self, samples: set[object]) -> None:
        """Forget samples that wait; what the device is at for others comes as it was."""
        self._waiting = deque(finished for finished in self._waiting if finished.sample not in samples)

    def advance(self, *, runs: Callable[[Hashable], bool], busy: bool) -> list[Developed]:
        """Read what was launched before the last step, launch what is due, and return what is finished.

        Args:
            runs: Whether samples are running that may join those of a shape.
            busy: Whether another step will follow; if not, there is nothing to wait for.
        """
        self._waiting_steps += 1
        developed = self._read_all()
        while self._waiting and (not busy or self._is_due(self._next_batch(), runs)):
            developed += self._launch(self._next_batch())
            if not busy:
                developed += self._read_all()
        return developed

    def _begin_to_wait(self) -> None:
        self._waiting_steps = 0
        self._waiting_since_s = time.monotonic()

    def _next_batch(self) -> list[FinishedJob]:
        shape = _latent_shape(self._waiting[0])  # whatever they were conditioned on
        alike = takewhile(lambda finished: _latent_shape(finished) == shape, self._waiting)
        return list(islice(alike, self._batches.of(self._waiting[0])))

    def _is_due(self, batch: list[FinishedJob], runs: Callable[[Hashable], bool]) -> bool:
        # A shape's last running sample may be cancelled or fail while others of it wait here; none joins them then.
        shape = batch[0].sample.shape
        patient = self._waiting_steps < _PATIENCE_STEPS and time.monotonic() - self._waiting_since_s < _PATIENCE_S
        return len(batch) == self._batches.of(batch[0]) or not runs(shape) or not patient

    def _launch(self, batch: list[FinishedJob]) -> list[Developed]:
        for _ in batch:
            self._waiting.popleft()
        self._begin_to_wait()
        latents = [finished.result for finished in batch if finished.result is not None]
        began, room = time.monotonic(), self._batches.of(batch[0])
        try:
            decoding = self._model.decode(latents, room)
        except Exception as error:
            return self._failed(batch, error)
        self.seconds["decode"] += time.monotonic() - began
        self._launched.append(_Launched(batch, room, decoding))
        return []

    def _read_all(self) -> list[Developed]:
        developed: list[Developed] = []
        while self._launched:
            launched = self._launched.popleft()
            began = time.monotonic()
            try:
                images = launched.decoding.read()
            except Exception as error:
                developed += self._failed(launched.batch, error)
            else:
                pairs = zip(launched.batch, images, strict=True)
                developed += [Developed(finished, image, batch=launched.room) for finished, image in pairs]
                self.seconds["read"] += time.monotonic() - began
        return developed

    def _failed(self, batch: list[FinishedJob], error: Exception) -> list[Developed]:
        """Put latents back in line, to be decoded in a smaller batch, if memory was all that was wanting."""
        if not is_out_of_memory(error) or not self._batches.halve(batch[0]):
            return [Developed(finished, error=error) for finished in batch]
        self._waiting.extendleft(reversed(batch))
        return []


def _latent_shape(finished: FinishedJob) -> tuple[int, ...]:
    assert finished.result is not None
    return tuple(finished.result.shape)
