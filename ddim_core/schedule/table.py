"""The coefficients of every step of one schedule, computed once in float64."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ddim_core.errors import ScheduleError
from ddim_core.schedule import checks
from ddim_core.schedule.config import ScheduleConfig
from ddim_core.schedule.spacing import Int64Array, predecessors, timesteps
from ddim_core.schedule.variances import Float64Array, alpha_bar

ETA_RANGE = checks.Interval(0, 1)

_TOLERANCE = 1e-9  # relative; float64 leaves about 1e-12 over the steepest schedules that are not refused
_SMALLEST_ALPHA_BAR = float(np.finfo(np.float32).max) ** -2  # 1 / sqrt of less is infinite in the device's float32


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """Coefficients of every step of one schedule, as a value to share and cache.

    Step ``i`` moves a sample from ``timesteps[i]`` to the next one::

        x0     = x0_from_x[i] * x + x0_from_out[i] * model_output         then clipped or thresholded
        eps    = eps_from_x[i] * x + eps_from_out[i] * model_output
        x_prev = prev_from_x0[i] * x0 + prev_from_eps[i] * eps + sigma[i] * z,   z ~ N(0, I)

    Arrays have shape ``[num_inference_steps]``, are read-only, and float64 but for ``timesteps`` (int64, descending; in
    a table that leads upwards, which ``paths`` makes, ascending).
    Two tables are equal when they are the same object; ``step_table`` returns the same object for equal arguments.

    Attributes:
        timesteps: What the denoiser is told.
        alpha_bar: alpha_bar of x, in ``[0, 1]``; down, that at ``timesteps[i]``.
        alpha_bar_prev: alpha_bar where step i leads, in ``[0, 1]``.
        x0_from_x: Factor of x in x0.
        x0_from_out: Factor of the model output in x0.
        eps_from_x: Factor of x in eps.
        eps_from_out: Factor of the model output in eps.
        prev_from_x0: ``sqrt(alpha_bar_prev)``.
        prev_from_eps: ``sqrt(1 - alpha_bar_prev - sigma^2)``.
        sigma: Standard deviation of the fresh noise, eta included.
        larger_variance: Whether sigma is sigma-hat, more than the noise that the step removes.
        clip_sample_range: Bound of ``|x0|``, or None where x0 is not clipped.
        dynamic_thresholding_ratio: Quantile of ``|x0|`` for dynamic thresholding, or None where there is none.
        sample_max_value: Upper bound of the dynamic threshold, or None where there is none.
    """

    timesteps: Int64Array
    alpha_bar: Float64Array
    alpha_bar_prev: Float64Array
    x0_from_x: Float64Array
    x0_from_out: Float64Array
    eps_from_x: Float64Array
    eps_from_out: Float64Array
    prev_from_x0: Float64Array
    prev_from_eps: Float64Array
    sigma: Float64Array
    larger_variance: bool
    clip_sample_range: float | None
    dynamic_thresholding_ratio: float | None
    sample_max_value: float | None

    def __post_init__(self) -> None:
        """Make the arrays read-only and check that the coefficients agree with each other."""
        arrays = [value for field in fields(self) if isinstance(value := getattr(self, field.name), np.ndarray)]
        for array in arrays:
            assert array.shape == self.timesteps.shape and np.isfinite(array).all()
            array.setflags(write=False)
        assert (self.alpha_bar >= 0).all() and (self.alpha_bar_prev >= 0).all()
        gained = self.alpha_bar_prev - self.alpha_bar  # signal: by every step down, lost by every step up
        assert (gained > -_TOLERANCE).all() or (gained < _TOLERANCE).all()
        assert (self.sigma >= 0).all() and (self.prev_from_eps >= 0).all()
        # The noise added is the noise removed: the marginal variance of Eq. (7) stays 1 - alpha_bar_prev. Sigma-hat
        # alone adds more than that, beside the direction of eta = 1.
        removed = _sigma(self.alpha_bar, self.alpha_bar_prev, 1.0) if self.larger_variance else self.sigma
        _assert_close(self.prev_from_x0**2 + self.prev_from_eps**2 + removed**2, 1.0)
        assert (self.sigma >= removed - _TOLERANCE).all()
        # x = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps (Eq. 4) must hold whatever x and the model output are.
        signal, noise = np.sqrt(self.alpha_bar), np.sqrt(1.0 - self.alpha_bar)
        _assert_close(signal * self.x0_from_x + noise * self.eps_from_x, 1.0)
        _assert_close(signal * self.x0_from_out + noise * self.eps_from_out, 0.0)

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.timesteps)


def step_table(config: ScheduleConfig, num_inference_steps: int, eta: float = 0.0) -> StepTable:
    """Return the coefficients of ``num_inference_steps`` steps; equal arguments give the same object.

    Args:
        config: The schedule.
        num_inference_steps: N, the number of steps, from 1 to ``config.num_train_timesteps``.
        eta: Share of the DDPM's noise in each step, in ``[0, 1]``: 0 is DDIM, 1 is DDPM; 1 with the larger variance.

    Raises:
        ScheduleError: An argument is out of range, or some step has no finite coefficients.
    """
    steps = checks.whole("num_inference_steps", num_inference_steps, 1, config.num_train_timesteps)
    eta = checks.number("eta", eta, ETA_RANGE)
    if config.variance == "larger" and eta != 1:
        raise ScheduleError(f"eta must be 1 with variance=larger, got {eta:g}; give eta=1, or leave variance at ddim")
    return _step_table(config, steps, eta)


def table_of_all_timesteps(config: ScheduleConfig, num_inference_steps: int, eta: float = 0.0) -> StepTable:
    """Return the coefficients of a step from every training timestep that has any, timesteps ascending.

    For callers that pass timesteps in an order of their own, as pipelines do to a scheduler. From a timestep that
    ``num_inference_steps`` steps do not visit, the step leads where ``timestep_pairs`` says: ``T // N`` back, or to the
    next lower timestep that is visited. Timesteps whose formulas divide by zero are left out.

    Raises:
        ScheduleError: As for ``step_table``; a visited timestep may not be left out.
    """
    steps = len(step_table(config, num_inference_steps, eta))
    every = np.arange(config.num_train_timesteps, dtype=np.int64)
    leads_to = predecessors(config, steps, every)
    a_t, a_prev = alpha_bar(config)[every], alpha_bar_at(config, leads_to)
    sound = ~np.logical_or.reduce(list(_faults(config, a_t, a_prev).values()))
    return _table(config, every[sound], leads_to[sound], float(eta))


def update_factors(table: StepTable, *, clipped_eps: bool = False) -> Float64Array:
    """Return the six factors of a fused update for each step, ``[steps, 6]``.

    ``x0 = f0 x + f1 out``, which the caller then clips or thresholds, and ``x_prev = f2 x0 + f3 x + f4 out + f5 z``.
    The direction term ``prev_from_eps * eps`` is spread over x0, x and the model output, so that one compiled graph
    serves both sources of eps.

    Args:
        table: Whose steps.
        clipped_eps: Derive eps from the bounded x0 (Eq. 4 solved for eps) in place of the model output.
    """
    signal, noise, zero = np.sqrt(table.alpha_bar), np.sqrt(1.0 - table.alpha_bar), np.zeros(len(table))
    eps_from_x0, eps_from_x, eps_from_out = zero, table.eps_from_x, table.eps_from_out
    if clipped_eps:
        eps_from_x0, eps_from_x, eps_from_out = -signal / noise, 1.0 / noise, zero
    columns = (
        table.x0_from_x,
        table.x0_from_out,
        table.prev_from_x0 + table.prev_from_eps * eps_from_x0,
        table.prev_from_eps * eps_from_x,
        table.prev_from_eps * eps_from_out,
        table.sigma,
    )
    return np.stack(columns, axis=1)


def unbounded_factors(factors: Float64Array) -> Float64Array:
    """Return the five factors of an update whose x0 is neither clipped nor thresholded, ``[steps, 5]``.

    ``x0 = f0 x + f1 out`` and ``x_prev = f2 x + f3 out + f4 z``: the six of ``update_factors`` with x0 put in.
    """
    f0, f1, f2, f3, f4, f5 = factors.T
    return np.stack((f0, f1, f2 * f0 + f3, f2 * f1 + f4, f5), axis=1)


@lru_cache(maxsize=256)
def _step_table(config: ScheduleConfig, num_inference_steps: int, eta: float) -> StepTable:
    visited = timesteps(config, num_inference_steps)
    leads_to = predecessors(config, num_inference_steps, visited)
    _refuse_faults(config, visited, leads_to)
    return _table(config, visited, leads_to, eta)


def _table(config: ScheduleConfig, t: Int64Array, leads_to: Int64Array, eta: float) -> StepTable:
    a_t, a_prev = alpha_bar_at(config, t), alpha_bar_at(config, leads_to)
    x0_from_x, x0_from_out, eps_from_x, eps_from_out = _prediction_coefficients(config.prediction_type, a_t)
    clips, thresholds = config.clip_sample and not config.thresholding, config.thresholding
    return StepTable(
        timesteps=t,
        alpha_bar=a_t,
        alpha_bar_prev=a_prev,
        x0_from_x=x0_from_x,
        x0_from_out=x0_from_out,
        eps_from_x=eps_from_x,
        eps_from_out=eps_from_out,
        prev_from_x0=np.sqrt(a_prev),
        prev_from_eps=_direction_coefficient(a_t, a_prev, eta),
        sigma=_larger_sigma(a_t, a_prev) if config.variance == "larger" else _sigma(a_t, a_prev, eta),
        larger_variance=config.variance == "larger",
        clip_sample_range=config.clip_sample_range if clips else None,
        dynamic_thresholding_ratio=config.dynamic_thresholding_ratio if thresholds else None,
        sample_max_value=config.sample_max_value if thresholds else None,
    )


def alpha_bar_at(config: ScheduleConfig, timestep: Int64Array) -> Float64Array:
    """Return alpha_bar at ``timestep``, where a negative timestep stands for x_0, past the end of the schedule.

    Args:
        config: The schedule; ``set_alpha_to_one`` decides what x_0 has.
        timestep: Any shape, below ``num_train_timesteps``.
    """
    curve = alpha_bar(config)
    final = 1.0 if config.set_alpha_to_one else curve[0]
    at: Float64Array = np.where(timestep < 0, final, curve[np.maximum(timestep, 0)])
    return at


def _prediction_coefficients(prediction_type: str, a_t: Float64Array) -> tuple[Float64Array, ...]:
    """Return ``x0_from_x, x0_from_out, eps_from_x, eps_from_out`` for a denoiser that predicts ``prediction_type``."""
    signal, noise = np.sqrt(a_t), np.sqrt(1.0 - a_t)
    zero, one = np.zeros_like(a_t), np.ones_like(a_t)
    if prediction_type == "epsilon":
        return 1.0 / signal, -noise / signal, zero, one  # "predicted x_0" of Eq. (12)
    if prediction_type == "sample":
        return zero, one, 1.0 / noise, -signal / noise  # Eq. (4) solved for eps
    return signal, -noise, noise, signal  # Salimans & Ho 2022, appendix D: v = sqrt(a) eps - sqrt(1 - a) x0


def _sigma(a_t: Float64Array, a_prev: Float64Array, eta: float) -> Float64Array:
    """Eq. (16): ``eta sqrt((1 - a_prev) / (1 - a_t)) sqrt(1 - a_t / a_prev)``."""
    sigma: Float64Array = eta * np.sqrt((1.0 - a_prev) / (1.0 - a_t)) * np.sqrt(1.0 - a_t / a_prev)
    return sigma


def _larger_sigma(a_t: Float64Array, a_prev: Float64Array) -> Float64Array:
    """Section 5 of the paper: ``sigma-hat = sqrt(1 - a_t / a_prev)``, of the rows of Table 1 below eta = 1.

    The mean stays that of eta = 1. The step to x_0 itself adds no noise, as in the authors' code.
    """
    sigma: Float64Array = np.sqrt(1.0 - a_t / a_prev) * (a_prev < 1.0)
    return sigma


def _direction_coefficient(a_t: Float64Array, a_prev: Float64Array, eta: float) -> Float64Array:
    """Return ``sqrt(1 - a_prev - sigma^2)``, the factor of the "direction pointing to x_t" of Eq. (12).

    With sigma from Eq. (16), ``1 - a_prev - sigma^2 = (1 - a_prev) (1 - eta^2 + eta^2 rest)``. No term of the product
    is negative and nothing cancels; the difference as written rounds below zero at zero terminal SNR with eta = 1.
    """
    rest = a_t * (1.0 - a_prev) / (a_prev * (1.0 - a_t))
    squared: Float64Array = (1.0 - a_prev) * ((1.0 - eta * eta) + eta * eta * rest)
    return np.sqrt(squared)


def _faults(config: ScheduleConfig, a_t: Float64Array, a_prev: Float64Array) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which steps have formulas that divide by zero, by what a person must change."""
    faults = {
        "beta_start must be above 0 where timestep {t} is visited: it has no noise to remove (alpha_bar is 1)": a_t
        >= 1.0,
        "betas must be lower: the step from timestep {t} leads to one without signal (alpha_bar is 0)": a_prev <= 0.0,
    }
    if config.prediction_type == "epsilon":
        faults[
            "prediction_type must be v_prediction or sample where timestep {t} is visited, got epsilon: it has no "
            "signal (zero terminal SNR), so x0 does not follow from eps; use a model that predicts v, or set "
            "rescale_betas_zero_snr=false"
        ] = a_t < _SMALLEST_ALPHA_BAR
    return faults


def _refuse_faults(config: ScheduleConfig, t: Int64Array, leads_to: Int64Array) -> None:
    for message, where in _faults(config, alpha_bar_at(config, t), alpha_bar_at(config, leads_to)).items():
        if where.any():
            raise ScheduleError(message.format(t=t[where][0]))


def _assert_close(actual: Float64Array, expected: float) -> None:
    assert np.allclose(actual, expected, rtol=_TOLERANCE, atol=_TOLERANCE)
