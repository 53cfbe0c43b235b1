"""The noise that each training timestep stands for: betas and alpha_bar."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ddim_core.errors import ScheduleError
from ddim_core.schedule.config import ScheduleConfig

Float64Array = npt.NDArray[np.float64]

_COSINE_OFFSET = 0.008  # s of Nichol & Dhariwal 2021, Eq. (17): keeps the first betas from vanishing
_MAX_COSINE_BETA = 0.999  # the "cap" of squaredcos_cap_v2, same paper


def betas(config: ScheduleConfig) -> Float64Array:
    """Return beta_t of every training timestep, shape ``[num_train_timesteps]``, after the zero-SNR rescale if any.

    Raises:
        ScheduleError: As for ``alpha_bar``.
    """
    if not config.rescale_betas_zero_snr:
        return _given_betas(config)
    rescaled = alpha_bar(config)
    before: Float64Array = np.concatenate(([1.0], rescaled[:-1]))
    # Once no signal is left every beta gives the same alpha_bar; it is 1 from there on.
    kept = np.divide(rescaled, before, out=np.zeros_like(rescaled), where=before > 0)
    return 1.0 - kept


@lru_cache(maxsize=64)
def alpha_bar(config: ScheduleConfig) -> Float64Array:
    """Return ``prod_{s<=t} (1 - beta_s)`` of every training timestep, shape ``[num_train_timesteps]``, read-only.

    Raises:
        ScheduleError: ``rescale_betas_zero_snr`` asks for what these betas cannot give.
    """
    cumulative: Float64Array = np.cumprod(1.0 - _given_betas(config))
    if config.rescale_betas_zero_snr:
        cumulative = _with_zero_terminal_snr(cumulative)
    cumulative.setflags(write=False)
    return cumulative


def _given_betas(config: ScheduleConfig) -> Float64Array:
    count = config.num_train_timesteps
    if config.trained_betas is not None:
        return np.array(config.trained_betas, dtype=np.float64)
    if config.beta_schedule == "linear":
        return np.linspace(config.beta_start, config.beta_end, count, dtype=np.float64)
    if config.beta_schedule == "scaled_linear":
        return np.linspace(config.beta_start**0.5, config.beta_end**0.5, count, dtype=np.float64) ** 2
    return _squared_cosine_betas(count)


def _squared_cosine_betas(count: int) -> Float64Array:
    """Nichol & Dhariwal 2021, Eq. (17): alpha_bar falls like a squared cosine; betas are capped."""
    time = np.arange(count + 1, dtype=np.float64) / count
    curve = np.cos((time + _COSINE_OFFSET) / (1 + _COSINE_OFFSET) * np.pi / 2) ** 2
    uncapped: Float64Array = 1.0 - curve[1:] / curve[:-1]
    return uncapped.clip(max=_MAX_COSINE_BETA)


def _with_zero_terminal_snr(cumulative: Float64Array) -> Float64Array:
    """Lin et al. 2024 (arXiv:2305.08891), Algorithm 1: shift sqrt(alpha_bar) to end at 0, keep its start."""
    root: Float64Array = np.sqrt(cumulative)
    if root[0] <= root[-1]:
        raise ScheduleError(
            "betas must add noise after the first timestep with rescale_betas_zero_snr, got alpha_bar "
            f"{cumulative[0]:g} at the first timestep and {cumulative[-1]:g} at the last; "
            "raise beta_end or set rescale_betas_zero_snr=false"
        )
    shifted: Float64Array = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    return shifted * shifted
