"""Which training timesteps a sampling run visits, and where each of its steps leads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ddim_core.errors import ScheduleError
from ddim_core.schedule import checks
from ddim_core.schedule.config import ScheduleConfig

Int64Array = npt.NDArray[np.int64]

BEFORE_FIRST = -1  # the "timestep" that the last step leads to: x_0 itself

_QUAD_REACH = 0.8  # the authors' code ends the quadratic sequence at 0.8 T


def timesteps(config: ScheduleConfig, num_inference_steps: int) -> Int64Array:
    """Return the timesteps that the steps visit: int64, descending, each in ``[0, T)``, no two equal.

    ``leading``, ``trailing`` and ``linspace`` are those of Lin et al. 2024, Table 2, rounded as diffusers and mindone
    round them; ``quad`` is the quadratic sub-sequence of the DDIM paper, appendix D.2.

    Raises:
        ScheduleError: ``num_inference_steps`` is not a whole number from 1 to T, or the sequence leaves the schedule.
    """
    steps = checks.whole("num_inference_steps", num_inference_steps, 1, config.num_train_timesteps)
    spaced = _spaced(config, steps)
    if spaced[0] >= config.num_train_timesteps:
        _refuse_offset(config, steps)
    spaced.setflags(write=False)
    return spaced


def predecessors(config: ScheduleConfig, num_inference_steps: int, t: Int64Array) -> Int64Array:
    """Return, for each timestep in ``t``, the one that a step from it leads to; ``BEFORE_FIRST`` stands for x_0.

    Raises:
        ScheduleError: As for ``timesteps``.
    """
    visited = timesteps(config, num_inference_steps)
    if config.timestep_pairs == "visited":
        ascending = np.concatenate(([BEFORE_FIRST], visited[::-1]))
        below: Int64Array = ascending[np.searchsorted(ascending, t) - 1]
        return below
    # Differs from the DDIM paper, whose step leads to the next timestep visited: with T = 1000 and 30 steps of
    # "linspace" none of the first 29 does. The default all the same, because results then agree with mindone's.
    return np.maximum(t - config.num_train_timesteps // num_inference_steps, BEFORE_FIRST)


def _spaced(config: ScheduleConfig, steps: int) -> Int64Array:
    total = config.num_train_timesteps
    if config.timestep_spacing == "leading":
        return _descending(np.arange(steps) * (total // steps) + config.steps_offset)
    if config.timestep_spacing == "linspace":
        return _descending(np.linspace(0, total - 1, steps).round())
    if config.timestep_spacing == "trailing":
        # For 62 of the 1000 step counts of T = 1000 (61, 103, 121, ...) arange rounds its way to one value more, near
        # 0, which diffusers and mindone turn into a last timestep of -1; it is cut off here.
        return _descending(np.round(np.arange(total, 0, -total / steps)[:steps])[::-1] - 1)
    return _quadratic(total, steps)


def _quadratic(total: int, steps: int) -> Int64Array:
    if steps < 2:
        raise ScheduleError(
            f"num_inference_steps must be at least 2 with timestep_spacing=quad, got {steps}; "
            "a quadratic sequence of one timestep is timestep 0, where no noise is left; choose trailing"
        )
    squares = np.floor(np.linspace(0, np.sqrt(_QUAD_REACH * total), steps) ** 2)
    # Differs from the authors' code: from about 30 steps of T = 1000 on, floor(c i^2) repeats the first timesteps, and
    # a step from t to t changes nothing. Each then takes the next timestep that is free.
    return _descending(np.maximum(squares, np.arange(steps)))


def _descending(ascending: npt.NDArray[Any]) -> Int64Array:
    return ascending[::-1].astype(np.int64)


def _refuse_offset(config: ScheduleConfig, steps: int) -> None:
    total = config.num_train_timesteps
    largest = total - 1 - (steps - 1) * (total // steps)
    raise ScheduleError(
        f"steps_offset must be at most {largest} with timestep_spacing=leading and num_inference_steps={steps}, "
        f"got {config.steps_offset}: the first timestep would be past the last trained one, {total - 1}; "
        "lower steps_offset or num_inference_steps, or choose timestep_spacing=trailing"
    )
