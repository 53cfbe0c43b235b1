"""Ways of a sample through the timesteps: down from noise, down to a look at x_0, or up from x_0 and down again.

Each way is one step table after another, so all of them share lanes, graphs and batches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from ddim_core.errors import ScheduleError
from ddim_core.schedule.config import ScheduleConfig
from ddim_core.schedule.spacing import Int64Array
from ddim_core.schedule.table import StepTable, step_table
from ddim_core.schedule.variances import Float64Array

_SMALLEST_DIVISOR = 1e-6
"""Of an upward step; what float32 keeps of a latent divided by less is mostly its rounding."""


@dataclass(frozen=True, slots=True)
class Down:
    """From x_T to x_0 by every step."""

    def num_steps(self, num_inference_steps: int) -> int:
        """Return how many steps the way has."""
        return num_inference_steps


@dataclass(frozen=True, slots=True)
class Glimpse:
    """The first ``steps`` steps down, the last of which leads to the x_0 that it predicts; all of them are ``Down``.

    A schedule's own last step may end above x_0 (``set_alpha_to_one``), and then is not replaced.
    """

    steps: int

    def num_steps(self, num_inference_steps: int) -> int:
        """Return how many steps the way has."""
        return min(self.steps, num_inference_steps)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """From x_0 up to x_T by the steps in reverse, and down again by the same steps; without noise (eta 0)."""

    def num_steps(self, num_inference_steps: int) -> int:
        """Return how many steps the way has."""
        return 2 * num_inference_steps


Path: TypeAlias = Down | Glimpse | RoundTrip
DOWN = Down()


def path_tables(config: ScheduleConfig, num_inference_steps: int, eta: float, path: Path) -> tuple[StepTable, ...]:
    """Return the tables whose steps, one after another, make the way.

    Raises:
        ScheduleError: As for ``step_table``; or a step cannot be taken upwards.
    """
    down = step_table(config, num_inference_steps, eta)
    if isinstance(path, Glimpse) and path.steps < num_inference_steps:
        return (_glimpse_table(down, path.steps),)
    return (upward_table(config, num_inference_steps), down) if isinstance(path, RoundTrip) else (down,)


@lru_cache(maxsize=64)
def upward_table(config: ScheduleConfig, num_inference_steps: int) -> StepTable:
    """Return the steps from x_0 to x_T: those of ``step_table`` without noise, each turned around, from last to first.

    DDIM's step is one of Euler's method for an ODE (Eq. (13) and (14) of https://arxiv.org/abs/2010.02502), which can
    be solved in the other direction (section 5.4). A step down from x_t to x_prev combines two guesses::

        x_t = sqrt(a_t) x0 + sqrt(1 - a_t) eps,   x_prev = sqrt(a_prev) x0 + sqrt(1 - a_prev) eps     (Eq. 4 and 12)

    Up, x_prev and the model output are known; the two guesses that explain both follow, and x_t from them. The model is
    asked at t, as on the way down, but with x_prev: that is the one difference of the two, and shrinks with the step.
    The table's ``alpha_bar`` is that of x_prev, and ``alpha_bar_prev`` that of x_t, where the step leads.

    Raises:
        ScheduleError: As for ``step_table``; or what a step leads to says nothing of where it came from.
    """
    down = step_table(config, num_inference_steps)
    a_from, a_to = down.alpha_bar_prev[::-1], down.alpha_bar[::-1]
    x0_in_out, eps_in_out = _output_coefficients(config.prediction_type, a_to)
    signal, noise = np.sqrt(a_from), np.sqrt(1.0 - a_from)
    # x = signal x0 + noise eps and out = x0_in_out x0 + eps_in_out eps, solved for x0 and eps.
    divisor = signal * eps_in_out - noise * x0_in_out
    _refuse_one_way(config, down.timesteps[::-1], divisor)
    return StepTable(
        timesteps=down.timesteps[::-1].copy(),
        alpha_bar=a_from.copy(),
        alpha_bar_prev=a_to.copy(),
        x0_from_x=eps_in_out / divisor,
        x0_from_out=-noise / divisor,
        eps_from_x=-x0_in_out / divisor,
        eps_from_out=signal / divisor,
        prev_from_x0=np.sqrt(a_to),
        prev_from_eps=np.sqrt(1.0 - a_to),
        sigma=np.zeros_like(a_to),
        larger_variance=False,
        clip_sample_range=None,  # a bound on x0 would lose what it cuts off
        dynamic_thresholding_ratio=None,
        sample_max_value=None,
    )


@lru_cache(maxsize=1024)
def _glimpse_table(table: StepTable, steps: int) -> StepTable:
    columns = {field.name: getattr(table, field.name) for field in fields(table)}
    rows: dict[str, Any] = {
        name: column[:steps].copy() for name, column in columns.items() if isinstance(column, np.ndarray)
    }
    rows["alpha_bar_prev"][-1] = rows["prev_from_x0"][-1] = 1.0  # Eq. (12) with alpha_bar 1: all signal, no noise
    rows["prev_from_eps"][-1] = rows["sigma"][-1] = 0.0
    return replace(table, **rows)


def _output_coefficients(prediction_type: str, a_t: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return how much of x0 and of eps the output of a denoiser at t is, if it is right."""
    zero, one = np.zeros_like(a_t), np.ones_like(a_t)
    if prediction_type == "epsilon":
        return zero, one
    if prediction_type == "sample":
        return one, zero
    return -np.sqrt(1.0 - a_t), np.sqrt(a_t)  # Salimans & Ho 2022, appendix D: v = sqrt(a) eps - sqrt(1 - a) x0


def _refuse_one_way(config: ScheduleConfig, t: Int64Array, divisor: Float64Array) -> None:
    lost = np.abs(divisor) < _SMALLEST_DIVISOR
    if not lost.any():
        return
    if config.prediction_type == "sample":
        raise ScheduleError(
            "set_alpha_to_one must be false to invert with prediction_type=sample, got true: the last step, from "
            f"timestep {t[lost][0]}, leads to the predicted x_0 itself, which keeps nothing of where it came from"
        )
    raise ScheduleError(
        f"num_inference_steps must be at least 2 to invert with this schedule, got {len(t)}: the step from timestep "
        f"{t[lost][0]} leads from pure noise to x_0 at once, which keeps nothing of where it came from"
    )
