"""Graphs compiled before they are needed, and how many slots of each shape the device's memory has room for."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

import numpy as np

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.contracts.sample import BatchShape, SampleSpec, Size
from ddim_core.errors import FleetError, NotFiniteError, SampleError
from ddim_core.sampling import device
from ddim_core.sampling.decoding import DecodeBatches, DecodeLine, FinishedJob
from ddim_core.sampling.engine import Engine
from ddim_core.sampling.models.model import Model
from ddim_core.sampling.runner import DeviceRunner, Job
from ddim_core.sampling.slots import Slots

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Rehearsal:
    """A shape that no sample has: those of the one that is rehearsed may be running."""

    of: BatchShape


class WarmUp:
    """Makes one picture of each shape in as few steps as can be, which compiles every graph that its samples need.

    Where the device has no memory for the slots, or more is in use than allowed, it is made again with half as many.
    """

    def __init__(self, model: Model, runner: DeviceRunner, info: CheckpointInfo, *, slots: Slots) -> None:
        """Find the slots of shapes, and write them into ``slots``."""
        self._model = model
        self._runner = runner
        self._info = info
        self._slots = slots
        self._done: set[tuple[BatchShape, bool, int]] = set()
        self._encoders: set[Size] = set()
        self.seconds = 0.0

    def prepare(self, shape: BatchShape, batches: DecodeBatches, *, thresholding: bool) -> None:
        """Compile for a shape, unless that was done: its denoising step, with dynamic thresholding if so, and decoder.

        Raises:
            SampleError: The picture is made of NaN, or the checkpoint's schedule allows no step.
            DeviceError: The device failed; ``OutOfMemoryError`` if it has no room for one slot.
        """
        self._slots.check(shape)
        if (shape, thresholding, self._slots.of(shape)) in self._done:
            return
        began = time.monotonic()
        logger.info("compiling for a size", extra={"action": "size_compiling", "size": str(shape)})
        try:
            finished = self._denoise_within_memory(shape, thresholding)
            self._decode(finished, batches)
        except Exception as error:
            raise error if isinstance(error, FleetError) else device.device_error(error) from error
        finally:
            self.seconds += time.monotonic() - began
        self._done.add((shape, thresholding, self._slots.of(shape)))
        logger.info(
            "a size is ready",
            extra={
                "action": "size_ready",
                "size": str(shape),
                "slots": self._slots.of(shape),
                "seconds": round(time.monotonic() - began, 1),
            },
        )

    def prepare_encoder(self, size: Size) -> None:
        """Compile the encoder of pictures of a size, unless that was done.

        Raises:
            SampleError: The picture's latents are made of NaN, or the checkpoint encodes none.
            DeviceError: The device failed.
        """
        if size in self._encoders:
            return
        began = time.monotonic()
        try:
            self._model.encode(np.zeros((size.height, size.width, 3), np.uint8))
        except Exception as error:
            raise error if isinstance(error, FleetError) else device.device_error(error) from error
        finally:
            self.seconds += time.monotonic() - began
        self._encoders.add(size)

    def _denoise_within_memory(self, shape: BatchShape, thresholding: bool) -> FinishedJob:
        while True:
            slots = self._slots.of(shape)
            device.reset_peak_memory()
            try:
                finished = self._denoise(shape, slots, thresholding)
            except Exception as error:
                if device.is_out_of_memory(error) and self._slots.halve(shape):
                    device.release_memory()
                    continue
                raise
            if self._slots.measured(shape, device.peak_memory_bytes()):
                return finished
            device.release_memory()

    def _denoise(self, shape: BatchShape, slots: int, thresholding: bool) -> FinishedJob:
        schedule = replace(self._info.schedule, thresholding=thresholding)
        steps = 2 if schedule.timestep_spacing == "quad" else 1  # quad has no sequence of one timestep
        spec = SampleSpec("", "", 0, 0, steps, 2.0, 0.0, 0.0, *shape.size, schedule, windows=shape.windows)
        [(conditions, negative_conditions)] = self._model.conditions([spec])
        sample = Job(spec, conditions, negative_conditions).sample(_Rehearsal(shape))
        engine = Engine(self._runner, 2 * slots)
        engine.submit(sample)
        try:
            while not (ended := engine.step()):
                pass
            finished: FinishedJob = ended[0]
            if finished.result is None:
                raise finished.error or SampleError("the picture must have latents, got none")
            finished.result.asnumpy()  # what failed on an asynchronous device shows now
        finally:
            self._runner.forget(sample.shape)
        return finished

    def _decode(self, finished: FinishedJob, batches: DecodeBatches) -> None:
        line = DecodeLine(self._model, batches)
        line.add([finished])
        [developed] = line.advance(runs=lambda _: False, busy=False)
        if developed.error is not None:
            raise developed.error
        if developed.image is None or not developed.image.finite:
            raise NotFiniteError("the image must be made of numbers, got NaN or infinity")
