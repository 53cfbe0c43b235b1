"""What the engine drives: one shape's lanes on the device, the bank of coefficients, noise, and the compiled graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import Tensor

from ddim_core.contracts.sample import SampleSpec
from ddim_core.errors import SampleError, ScheduleError
from ddim_core.sampling.bank import IDLE_ROW, CoefficientBank, TableKey
from ddim_core.sampling.engine import Sample
from ddim_core.sampling.models.model import LatentShape, Model
from ddim_core.sampling.noise import initial_noise, step_noise
from ddim_core.sampling.step import Admission, Conditions, DenoisingStep, Lanes, Newcomer, idle_lanes

# A table has at most num_train_timesteps rows, 1000 for every published Stable Diffusion: the tables in use always fit.
_ROWS_PER_LANE = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """A sample as the runner needs it."""

    spec: SampleSpec
    conditions: Conditions
    """What its model made of the prompt, and of whatever else its denoiser is given."""
    negative_conditions: Conditions
    """The same for the unconditional output that guidance leads away from."""

    @property
    def table(self) -> TableKey:
        """The schedule's rows that it needs."""
        return TableKey(self.spec.schedule, self.spec.num_inference_steps, self.spec.eta)


class DeviceRunner:
    """Runs samples in the lanes of the device; satisfies ``engine.Runner``.

    The noise of eta > 0 is drawn on the host and sent with the step: 4 bytes for each latent value and lane, and about
    10 ns of one core for each value of a sample that needs it, drawn while the device is at the step before. A step
    without such a sample sends nothing: its z is a tensor of zeros that lives on the device.
    """

    def __init__(self, model: Model, num_lanes: int) -> None:
        self._model = model
        self._num_lanes = num_lanes
        self._admission = Admission()
        self._plain_step = DenoisingStep(model.denoiser)
        self._thresholding_step = DenoisingStep(model.denoiser, thresholding=True)
        self.reset()

    def reset(self) -> None:
        """Forget all samples, for instance after the device failed."""
        self._bank = CoefficientBank(1 + self._num_lanes * _ROWS_PER_LANE)
        self._uploaded_version = -1
        self._shape: LatentShape | None = None
        self._lanes: Lanes

    def admit(self, sample: Sample[Job]) -> None:
        """Write a sample's noise, conditions, scales and first row into its lanes."""
        job, spec = sample.job, sample.job.spec
        try:
            first_row = self._bank.acquire(job.table)
        except ScheduleError as error:
            raise SampleError(str(error)) from error
        shape = self._model.latent_shape(spec.height, spec.width)
        self._set_shape(shape, job.conditions)
        self._lanes = self._admission.admit(
            self._lanes,
            Newcomer(
                lanes=sample.lanes,
                x=initial_noise(spec.seed, spec.image_index, shape),
                first_row=first_row,
                conditions=job.conditions,
                negative_conditions=job.negative_conditions,
                guidance_scale=spec.guidance_scale,
                guidance_rescale=spec.guidance_rescale,
            ),
        )

    def advance(self, running: Sequence[Sample[Job]]) -> None:
        """Take one step with all lanes."""
        thresholding = any(sample.job.spec.schedule.thresholding for sample in running)
        step = self._thresholding_step if thresholding else self._plain_step
        self._lanes = step.advance(self._lanes, self._rows(), self._noise(running))

    def take(self, sample: Sample[Job]) -> Tensor:
        """Return the sample's x_0, [C, h, w], on the device; its lanes went to rest with its last step."""
        self._bank.release(sample.job.table)
        return self._lanes.x[sample.lanes[0]]

    def drop(self, sample: Sample[Job]) -> None:
        """Put the lanes of a cancelled sample to rest."""
        self._bank.release(sample.job.table)
        assert self._shape is not None
        nothing = np.zeros(self._shape, np.float32)
        job = sample.job
        newcomer = Newcomer(sample.lanes, nothing, IDLE_ROW, job.conditions, job.negative_conditions, 0.0, 0.0)
        self._lanes = self._admission.admit(self._lanes, newcomer)

    def _set_shape(self, shape: LatentShape, conditions: Conditions) -> None:
        if shape != self._shape:
            self._lanes = idle_lanes(self._num_lanes, shape, conditions)
            self._no_noise = Tensor(np.zeros((self._num_lanes, *shape), np.float32))
            self._shape = shape

    def _rows(self) -> Tensor:
        if self._bank.version != self._uploaded_version:
            self._uploaded_rows = Tensor(self._bank.rows.copy())
            self._uploaded_version = self._bank.version
        return self._uploaded_rows

    def _noise(self, running: Sequence[Sample[Job]]) -> Tensor:
        noisy = [sample for sample in running if sample.job.spec.eta > 0]
        if not noisy:
            return self._no_noise
        assert self._shape is not None
        z: Any = np.zeros((self._num_lanes, *self._shape), np.float32)
        for sample in noisy:
            spec = sample.job.spec
            z[list(sample.lanes)] = step_noise(spec.seed, spec.image_index, sample.steps_done, self._shape)
        return Tensor(z)
