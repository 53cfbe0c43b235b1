"""What the engine drives: each shape's lanes on the device, their coefficients and noise, and the graphs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from mindspore import Tensor

from ddim_core.contracts.sample import SampleSpec
from ddim_core.contracts.start import Picture
from ddim_core.errors import SampleError, ScheduleError
from ddim_core.sampling.bank import IDLE_ROW, CoefficientBank, TableKey
from ddim_core.sampling.bucket import Sample
from ddim_core.sampling.drawing import SampleNoise
from ddim_core.sampling.fused.step import denoising_step
from ddim_core.sampling.models.model import LatentShape, Model
from ddim_core.sampling.noise import Float32Array
from ddim_core.sampling.reserve import NoiseReserve
from ddim_core.sampling.step import Conditions, Newcomer, admitted, idle_lanes
from ddim_core.schedule import RoundTrip

# A table has at most num_train_timesteps rows, 1000 for every published Stable Diffusion, and a way has at most two of
# them: those in use always fit.
_ROWS_PER_LANE = 2000


@dataclass(slots=True)
class Kept:
    """What is kept on the device from the middle of a sample's way."""

    x_T: Tensor | None = None  # noqa: N815
    """Of a sample that goes up and down again, [C, h, w]."""

    def read(self) -> Float32Array | None:
        """Return x_T on the host, if there is one."""
        return None if self.x_T is None else self.x_T.asnumpy()


@dataclass(frozen=True, slots=True)
class Job:
    """A sample as the runner needs it."""

    spec: SampleSpec
    conditions: Conditions
    """What its model made of the prompt, and of whatever else its denoiser is given."""
    negative_conditions: Conditions
    """The same for the unconditional output that guidance leads away from."""
    noise: SampleNoise | None = None
    """Drawn while the sample waits; None to draw it on admission."""
    kept: Kept = field(default_factory=Kept)

    @property
    def table(self) -> TableKey:
        """The schedule's rows that it needs."""
        return TableKey(self.spec.schedule, self.spec.num_inference_steps, self.spec.eta, self.spec.path)

    def sample(self, shape: Hashable) -> Sample[Job]:
        """Return the sample that the engine makes of it, in the lanes of ``shape``."""
        # As in diffusers: a guidance_scale of 1 or less means no guidance, and one lane instead of two.
        num_lanes = 2 if self.spec.guidance_scale > 1 else 1
        return Sample(job=self, shape=shape, num_lanes=num_lanes, num_steps=self.spec.num_steps)


class DeviceBucket:
    """The lanes of one shape on the device."""

    def __init__(self, shape: LatentShape, num_lanes: int, like: Conditions) -> None:
        """Make lanes at rest for latents of ``shape`` and conditions such as ``like``."""
        self.shape = shape
        self.num_lanes = num_lanes
        self.lanes = idle_lanes(num_lanes, shape, like)
        self.bank = CoefficientBank(1 + num_lanes * _ROWS_PER_LANE)
        self._uploaded_version = -1
        self._no_noise = Tensor(np.zeros((num_lanes, *shape), np.float32))
        self._reserve: NoiseReserve | None = None  # made for the first sample with eta above 0

    def rows(self) -> Tensor:
        """Return the bank's rows on the device, sent again if they changed."""
        if self.bank.version != self._uploaded_version:
            self._uploaded_rows = Tensor(self.bank.rows.copy())
            self._uploaded_version = self.bank.version
        return self._uploaded_rows

    def admit_noise(self, sample: Sample[Job], noise: SampleNoise) -> None:
        """Have the noise of the sample's steps ready, where they need any."""
        if noise.has_page(0):
            if self._reserve is None:
                self._reserve = NoiseReserve(self.num_lanes, self.shape)
            self._reserve.admit(sample, noise, sample.lanes)

    def noise(self) -> Tensor:
        """Return the noise of this step, [L, C, h, w]."""
        z = None if self._reserve is None else self._reserve.next()
        return self._no_noise if z is None else z

    def release(self, sample: Sample[Job]) -> None:
        """Forget a sample that leaves its lanes."""
        self.bank.release(sample.job.table)
        if self._reserve is not None:
            self._reserve.release(sample)


class DeviceRunner:
    """Runs samples in the lanes of the device; satisfies ``engine.Runner``.

    Noise is drawn on the host, in a thread of its own, before the sample is admitted; that of eta > 0 is on the device
    steps before it is needed (``NoiseReserve``). A steady step sends the device nothing.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._plain_step = denoising_step(model.denoiser)
        self._thresholding_step = denoising_step(model.denoiser, thresholding=True)
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix="noise")
        self._buckets: dict[Hashable, DeviceBucket] = {}

    def reset(self) -> None:
        """Forget all samples, for instance after the device failed."""
        self._buckets.clear()

    def forget(self, shape: Hashable) -> None:
        """Give up the lanes of a shape, of which no sample runs."""
        self._buckets.pop(shape, None)

    def begin_noise(self, spec: SampleSpec) -> SampleNoise:
        """Begin to draw the noise of a sample; the picture of one that starts with that is encoded now."""
        latents = None
        if isinstance(spec.start, Picture):
            if spec.start.pixels is None:
                raise SampleError(f"the picture {spec.start.source} must be read before it is inverted")
            latents = self._model.encode(spec.start.pixels)
        return SampleNoise(spec, self._model.latent_shape(spec.height, spec.width), self._drawing, latents)

    def admit(self, sample: Sample[Job]) -> None:
        """Write a sample's noise, conditions, scales and first row into its lanes."""
        job, spec = sample.job, sample.job.spec
        bucket = self._bucket(sample)
        try:
            first_row = bucket.bank.acquire(job.table)
        except ScheduleError as error:
            raise SampleError(str(error)) from error
        noise = job.noise or self.begin_noise(spec)
        bucket.lanes = admitted(
            bucket.lanes,
            Newcomer(
                lanes=sample.lanes,
                x=noise.initial,
                first_row=first_row,
                conditions=job.conditions,
                negative_conditions=job.negative_conditions,
                guidance_scale=spec.guidance_scale,
                guidance_rescale=spec.guidance_rescale,
            ),
        )
        bucket.admit_noise(sample, noise)

    def advance(self, running: Sequence[Sample[Job]]) -> None:
        """Take one step with all lanes of the shape that ``running`` has."""
        bucket = self._buckets[running[0].shape]
        thresholding = any(sample.job.spec.schedule.thresholding for sample in running)
        step = self._thresholding_step if thresholding else self._plain_step
        bucket.lanes = step.advance(bucket.lanes, bucket.rows(), bucket.noise())
        for sample in running:
            spec = sample.job.spec
            if isinstance(spec.path, RoundTrip) and sample.steps_done + 1 == spec.num_inference_steps:
                sample.job.kept.x_T = bucket.lanes.x(sample.lanes[0])

    def take(self, sample: Sample[Job]) -> Tensor:
        """Return the sample's x_0, [C, h, w], on the device; its lanes went to rest with its last step."""
        bucket = self._buckets[sample.shape]
        bucket.release(sample)
        return bucket.lanes.x(sample.lanes[0])

    def drop(self, sample: Sample[Job]) -> None:
        """Put the lanes of a cancelled sample to rest."""
        bucket, job = self._buckets[sample.shape], sample.job
        bucket.release(sample)
        nothing = np.zeros(bucket.shape, np.float32)
        newcomer = Newcomer(sample.lanes, nothing, IDLE_ROW, job.conditions, job.negative_conditions, 0.0, 0.0)
        bucket.lanes = admitted(bucket.lanes, newcomer)

    def _bucket(self, sample: Sample[Job]) -> DeviceBucket:
        bucket = self._buckets.get(sample.shape)
        if bucket is None or bucket.num_lanes != sample.batch_lanes:
            shape = self._model.latent_shape(sample.job.spec.height, sample.job.spec.width)
            bucket = DeviceBucket(shape, sample.batch_lanes, sample.job.conditions)
            self._buckets[sample.shape] = bucket
        return bucket
