"""A drop-in for ``mindone.diffusers.DDIMScheduler`` whose coefficients stay on the device."""

from __future__ import annotations

from math import prod
from operator import index
from typing import Any, ClassVar

import mindspore as ms
import numpy as np
from mindone.diffusers.configuration_utils import register_to_config
from mindone.diffusers.schedulers.scheduling_ddim import DDIMScheduler as MindoneScheduler
from mindone.diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from mindone.diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from mindone.diffusers.utils.mindspore_utils import randn_tensor
from mindspore import ops

from ddim_core.errors import ScheduleError
from ddim_core.sampling.scheduler_config import in_force, keep_ours, with_attributes
from ddim_core.schedule import (
    Float64Array,
    ScheduleConfig,
    StepTable,
    alpha_bar,
    betas,
    table_of_all_timesteps,
    timesteps,
    unbounded_factors,
    update_factors,
)

__all__ = ["DDIMScheduler", "DDIMSchedulerOutput"]

Bound = tuple[float, int, float]
_MAX_TABLES = 32  # of 24 kB each: a caller who changes eta at every step must not fill the device's memory


class DDIMScheduler(MindoneScheduler):
    """DDIM (Song et al. 2021, arXiv:2010.02502) for any mindone pipeline.

    Constructor, methods, defaults and outputs are those of ``mindone.diffusers.DDIMScheduler``, whose place it takes::

        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")

    It is one of mindone's for pipelines that ask for the class, and shares no arithmetic with it. Coefficients are
    computed in float64 and uploaded once. A step gathers them by timestep on the device, updates in float32 in one
    compiled graph and reads nothing back to the host. ``ScheduleConfig`` describes the parameters; ``timestep_pairs``,
    ``variance`` and the spacing ``quad`` are additions to mindone's.
    """

    _compatibles: ClassVar[list[str]] = [scheduler.name for scheduler in KarrasDiffusionSchedulers]
    order = 1

    @register_to_config
    def __init__(  # noqa: PLR0913, PLR0917 - the signature is mindone's
        self,
        num_train_timesteps: int = 1000,
        beta_start: float = 0.0001,
        beta_end: float = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Any = None,
        clip_sample: bool = True,
        set_alpha_to_one: bool = True,
        steps_offset: int = 0,
        prediction_type: str = "epsilon",
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        clip_sample_range: float = 1.0,
        sample_max_value: float = 1.0,
        timestep_spacing: str = "leading",
        rescale_betas_zero_snr: bool = False,
        timestep_pairs: str = "diffusers",
        variance: str = "ddim",
    ) -> None:
        """Compute the noise schedule and put it on the device.

        Raises:
            ScheduleError: A parameter has the wrong type or lies out of its range.
        """
        self._schedule = ScheduleConfig.from_mapping(self.config, ignore_unknown=True)
        curve = alpha_bar(self._schedule)
        self.betas = ms.Tensor(betas(self._schedule), ms.float32)
        self.alphas = ms.Tensor(1.0 - betas(self._schedule), ms.float32)
        self.alphas_cumprod = ms.Tensor(curve, ms.float32)
        self.final_alpha_cumprod = ms.Tensor(1.0 if set_alpha_to_one else curve[0], ms.float32)
        self.init_noise_sigma = 1.0
        self.num_inference_steps: int | None = None
        self.timesteps = ms.Tensor(np.arange(num_train_timesteps, dtype=np.int64)[::-1].copy())
        self._signal_and_noise = _between_nan_columns(np.sqrt(np.stack([curve, 1.0 - curve])))
        self._tables: dict[tuple[float, bool], ms.Tensor] = {}
        # What a pipeline writes into model_index.json for the class's library: others than we shall read its folder.
        self.__module__ = MindoneScheduler.__module__

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """Return the scheduler that another one's ``config`` describes, with the changes in ``kwargs``.

        Differs from mindone: what a pipeline put into the configuration after its scheduler was loaded stays in force
        where the saved file did not mention it (``clip_sample=False`` and ``steps_offset=1`` of Stable Diffusion).

        Raises:
            ScheduleError: A parameter has the wrong type or lies out of its range.
        """
        return super().from_config(in_force(config), return_unused_kwargs, **kwargs)

    def __len__(self) -> int:
        """Return the number of training timesteps."""
        return self._schedule.num_train_timesteps

    def scale_model_input(self, sample: ms.Tensor, timestep: int | ms.Tensor | None = None) -> ms.Tensor:
        """Return ``sample`` as it is: DDIM does not scale what the denoiser sees."""
        return sample

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Choose the timesteps of a sampling run and upload its coefficients.

        Reads ``config`` again, because pipelines change it after construction (Stable Diffusion: ``steps_offset=1``).

        Raises:
            ScheduleError: The schedule has no such number of steps, or one of them has no finite coefficients.
        """
        schedule = ScheduleConfig.from_mapping(with_attributes(self.config), ignore_unknown=True)
        visited = timesteps(schedule, num_inference_steps)
        eta = 1.0 if schedule.variance == "larger" else 0.0
        table = table_of_all_timesteps(schedule, num_inference_steps, eta)
        self._schedule = schedule
        self._tables = {(eta, False): self._device_table(table, clipped_eps=False)}
        self.num_inference_steps = num_inference_steps
        self.timesteps = ms.Tensor(visited.copy())

    def step(  # noqa: PLR0913, PLR0917 - the signature is mindone's
        self,
        model_output: ms.Tensor,
        timestep: int | ms.Tensor,
        sample: ms.Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: np.random.Generator | list[np.random.Generator] | None = None,
        variance_noise: ms.Tensor | None = None,
        return_dict: bool = False,
    ) -> DDIMSchedulerOutput | tuple[ms.Tensor, ms.Tensor]:
        """Return the sample one step closer to x_0, and the x_0 that this step predicts.

        Args:
            model_output: What the denoiser returned, ``[B, ...]``.
            timestep: Where ``sample`` stands: an int or 0-d tensor, or ``[B]`` for samples at different timesteps. What
                lies outside the schedule raises when it is an int and gives NaN when it is a tensor, whose value would
                have to be read from the device.
            sample: x_t, ``[B, ...]``; the results have its dtype.
            eta: Share of the DDPM's noise, in ``[0, 1]``; 1 with ``variance="larger"``.
            use_clipped_model_output: Take eps from the clipped x_0 instead of the model's output.
            generator: NumPy generator, or one per sample, of the noise that a step with ``eta > 0`` adds.
            variance_noise: That noise itself, in place of ``generator``.
            return_dict: Return a ``DDIMSchedulerOutput``, not a tuple.

        Raises:
            ScheduleError: ``set_timesteps`` was not called, ``eta`` is out of range, both ``generator`` and
                ``variance_noise`` were given, ``timestep`` does not fit the batch, or an int lies outside the schedule.
            TypeError: ``timestep`` is neither an int nor a tensor.
        """
        table = self._table(eta, use_clipped_model_output)
        z = _noise(model_output, sample.dtype, generator, variance_noise) if eta > 0 else None
        t = self._timestep_tensor(timestep, len(sample))
        prev_sample, x0 = _update(table, t, sample, model_output, z, self._bound(sample.shape))
        if return_dict:
            return DDIMSchedulerOutput(prev_sample=prev_sample, pred_original_sample=x0)
        return prev_sample, x0

    def add_noise(self, original_samples: ms.Tensor, noise: ms.Tensor, timesteps: ms.Tensor) -> ms.Tensor:
        """Return x_t of Eq. (4) for x_0 ``original_samples`` at ``timesteps``, a tensor 0-d or ``[B]``."""
        signal_part, noise_part = _factors(self._signal_and_noise, timesteps, original_samples.ndim)
        return (signal_part * original_samples + noise_part * noise).astype(original_samples.dtype)

    def get_velocity(self, sample: ms.Tensor, noise: ms.Tensor, timesteps: ms.Tensor) -> ms.Tensor:
        """Return v (Salimans & Ho 2022, appendix D), the target of v-prediction, at ``timesteps``, 0-d or ``[B]``."""
        signal_part, noise_part = _factors(self._signal_and_noise, timesteps, sample.ndim)
        return (signal_part * noise - noise_part * sample).astype(sample.dtype)

    def _get_variance(self, timestep: int | ms.Tensor, prev_timestep: int | ms.Tensor) -> ms.Tensor:
        """Return sigma^2 of Eq. (16) at eta 1; a ``prev_timestep`` below 0 is x_0. LEdits++ asks for it."""
        t, prev = (ms.Tensor(each) if isinstance(each, int) else each for each in (timestep, prev_timestep))
        (signal, noise), (signal_prev, noise_prev) = (
            _factors(self._signal_and_noise, at, 1) for at in (t, ops.maximum(prev, 0))
        )
        final = self.final_alpha_cumprod
        a_t, a_prev = signal**2, ops.where(prev < 0, final, signal_prev**2)
        b_t, b_prev = noise**2, ops.where(prev < 0, 1.0 - final, noise_prev**2)
        # a_prev - a_t and b_t - b_prev are the same number; the smaller of two terms keeps more digits of it.
        taken = ops.where(a_t < b_t, a_prev - a_t, b_t - b_prev)
        return ((b_prev / b_t) * (taken / a_prev)).reshape(t.shape)

    def _table(self, eta: float, clipped_eps: bool) -> ms.Tensor:
        if self.num_inference_steps is None:
            raise ScheduleError("num_inference_steps must be set before a step, got None; call set_timesteps first")
        key = (eta, bool(clipped_eps))
        if key not in self._tables:
            table = table_of_all_timesteps(self._schedule, self.num_inference_steps, eta)
            if len(self._tables) == _MAX_TABLES:
                self._tables.clear()
            self._tables[key] = self._device_table(table, clipped_eps=clipped_eps)
        return self._tables[key]

    def _device_table(self, table: StepTable, *, clipped_eps: bool) -> ms.Tensor:
        """Return the factors that an update gathers for every timestep; where a timestep has none they are NaN."""
        factors = update_factors(table, clipped_eps=clipped_eps)
        if not self._bounds_x0:
            factors = unbounded_factors(factors)
        columns = np.full((factors.shape[1], len(self)), np.nan)
        columns[:, table.timesteps] = factors.T
        return _between_nan_columns(columns)

    @property
    def _bounds_x0(self) -> bool:
        return self._schedule.clip_sample or self._schedule.thresholding

    def _timestep_tensor(self, timestep: int | ms.Tensor, batch_size: int) -> ms.Tensor:
        if isinstance(timestep, ms.Tensor):
            if timestep.size not in (1, batch_size):
                raise ScheduleError(
                    f"timestep must be one number or one for each of {batch_size} samples, got shape {timestep.shape}"
                )
            return timestep
        if not 0 <= index(timestep) < len(self):
            raise ScheduleError(
                f"timestep must be from 0 to {len(self) - 1}, got {timestep}; pass one of scheduler.timesteps, or load "
                "the scheduler with the num_train_timesteps of the model"
            )
        # A Python int would be compiled into the graph, once for each value.
        return ms.Tensor(index(timestep), ms.int64)

    def _bound(self, shape: tuple[int, ...]) -> Bound | None:
        """Return how x0 is bounded: the bound, and for a quantile how many of the largest ``|x0|`` it takes.

        The third number says where between the last two of these the quantile lies.
        """
        if not self._bounds_x0:
            return None
        if not self._schedule.thresholding:
            return self._schedule.clip_sample_range, 0, 0.0
        last = prod(shape[1:]) - 1
        position = self._schedule.dynamic_thresholding_ratio * last
        return self._schedule.sample_max_value, last - int(position) + 1, position % 1.0


def _between_nan_columns(columns: Float64Array) -> ms.Tensor:
    return ms.Tensor(np.pad(columns, ((0, 0), (1, 1)), constant_values=np.nan), ms.float32)


def _factors(table: ms.Tensor, t: ms.Tensor, ndim: int) -> tuple[ms.Tensor, ...]:
    """Gather the factors of each timestep, each ``[1 or B, 1, ...]``; outside the schedule they are NaN."""
    column = ops.minimum(ops.maximum(t.reshape((-1,)).astype(ms.int64) + 1, 0), table.shape[1] - 1)
    gathered = ops.gather(table, column, 1)
    return ops.unstack(gathered.reshape((*gathered.shape, *(1,) * (ndim - 1))), 0)


def _noise(model_output: ms.Tensor, dtype: Any, generator: Any, variance_noise: ms.Tensor | None) -> ms.Tensor:
    if variance_noise is None:
        return randn_tensor(model_output.shape, generator=generator, dtype=dtype)
    if generator is not None:
        raise ScheduleError("generator and variance_noise must not be given together; leave one of them None")
    return variance_noise


keep_ours(MindoneScheduler, DDIMScheduler)


@ms.jit
def _update(
    table: ms.Tensor, t: ms.Tensor, x: ms.Tensor, out: ms.Tensor, z: ms.Tensor | None, bound: Bound | None
) -> tuple[ms.Tensor, ms.Tensor]:
    """Eq. (12): ``x_prev = sqrt(a_prev) x0 + sqrt(1 - a_prev - sigma^2) eps + sigma z``; return x_prev and x0.

    ``z`` is None or the noise; ``bound`` is None or the plain numbers that ``_bound`` returns, which are compiled in.
    """
    dtype = x.dtype
    x, out = x.astype(ms.float32), out.astype(ms.float32)
    if bound is None:
        x0_from_x, x0_from_out, prev_from_x, prev_from_out, sigma = _factors(table, t, x.ndim)
        x0 = x0_from_x * x + x0_from_out * out
        x_prev = prev_from_x * x + prev_from_out * out
    else:
        x0_from_x, x0_from_out, prev_from_x0, prev_from_x, prev_from_out, sigma = _factors(table, t, x.ndim)
        x0 = _bounded(x0_from_x * x + x0_from_out * out, bound)
        x_prev = prev_from_x0 * x0 + prev_from_x * x + prev_from_out * out
    if z is not None:
        x_prev = x_prev + sigma * z.astype(ms.float32)
    return x_prev.astype(dtype), x0.astype(dtype)


def _bounded(x0: ms.Tensor, bound: Bound) -> ms.Tensor:
    largest, count, fraction = bound
    if count == 0:
        return ops.clamp(x0, -largest, largest)
    # Dynamic thresholding, Saharia et al. 2022, section 2.3: clip to a quantile s of |x0|, at least 1, and divide by s.
    top, _ = ops.topk(ops.abs(x0).reshape((x0.shape[0], -1)), count)
    lower, upper = top[:, count - 1], top[:, max(count - 2, 0)]
    s = ops.clamp(lower + (upper - lower) * fraction, min(1.0, largest), largest)
    return ops.clamp(x0 / s.reshape((-1,) + (1,) * (x0.ndim - 1)), -1.0, 1.0)
