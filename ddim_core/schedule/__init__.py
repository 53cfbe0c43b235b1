"""The DDIM schedule in NumPy float64: betas, alpha_bar, timesteps and the coefficients of every step.

Nothing here knows a device. ``alpha_bar`` is the cumulative product of ``1 - beta``: what diffusers calls
``alphas_cumprod`` and the DDIM paper (Song et al. 2021, arXiv:2010.02502) calls alpha_t.
"""

from ddim_core.schedule.config import (
    BETA_SCHEDULES,
    MAX_TRAIN_TIMESTEPS,
    PARAMETER_NAMES,
    PREDICTION_TYPES,
    TIMESTEP_PAIRS,
    TIMESTEP_SPACINGS,
    VARIANCES,
    ScheduleConfig,
)
from ddim_core.schedule.paths import DOWN, Down, Glimpse, Path, RoundTrip, path_tables, upward_table
from ddim_core.schedule.spacing import Int64Array, predecessors, timesteps
from ddim_core.schedule.table import (
    StepTable,
    step_table,
    table_of_all_timesteps,
    unbounded_factors,
    update_factors,
)
from ddim_core.schedule.variances import Float64Array, alpha_bar, betas

__all__ = [
    "BETA_SCHEDULES",
    "DOWN",
    "MAX_TRAIN_TIMESTEPS",
    "PARAMETER_NAMES",
    "PREDICTION_TYPES",
    "TIMESTEP_PAIRS",
    "TIMESTEP_SPACINGS",
    "VARIANCES",
    "Down",
    "Float64Array",
    "Glimpse",
    "Int64Array",
    "Path",
    "RoundTrip",
    "ScheduleConfig",
    "StepTable",
    "alpha_bar",
    "betas",
    "path_tables",
    "predecessors",
    "step_table",
    "table_of_all_timesteps",
    "timesteps",
    "unbounded_factors",
    "update_factors",
    "upward_table",
]
