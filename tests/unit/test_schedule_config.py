"""ScheduleConfig: a checked, hashable value that reads diffusers' configurations."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from ddim_core.errors import InputError, ScheduleError
from ddim_core.schedule import (
    BETA_SCHEDULES,
    PARAMETER_NAMES,
    PREDICTION_TYPES,
    TIMESTEP_PAIRS,
    TIMESTEP_SPACINGS,
    VARIANCES,
    ScheduleConfig,
)

STABLE_DIFFUSION_1_5 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"num_train_timesteps": 0}, "num_train_timesteps must be a whole number from 1 to 1000000, got 0"),
    ({"num_train_timesteps": 1000.0}, "num_train_timesteps must be a whole number from 1 to 1000000, got 1000.0"),
    ({"num_train_timesteps": True}, "num_train_timesteps must be a whole number from 1 to 1000000, got True"),
    ({"num_train_timesteps": 10**7}, "num_train_timesteps must be a whole number from 1 to 1000000, got 10000000"),
    ({"steps_offset": -1}, "steps_offset must be a whole number from 0 to 1000000, got -1"),
    ({"beta_start": math.nan}, "beta_start must be a number in [0, 1), got nan"),
    ({"beta_start": 1}, "beta_start must be a number in [0, 1), got 1"),
    ({"beta_end": 1.5}, "beta_end must be a number in [0, 1], got 1.5"),
    ({"beta_end": "0.02"}, "beta_end must be a number in [0, 1], got '0.02'"),
    ({"beta_end": 10**400}, "beta_end must be a number in [0, 1], got 1000"),
    (
        {"beta_schedule": "sigmoid"},
        "beta_schedule must be one of linear, scaled_linear, squaredcos_cap_v2, got 'sigmoid'",
    ),
    ({"prediction_type": "flow"}, "prediction_type must be one of epsilon, sample, v_prediction, got 'flow'"),
    ({"timestep_spacing": None}, "timestep_spacing must be one of leading, trailing, linspace, quad, got None"),
    ({"timestep_pairs": "next"}, "timestep_pairs must be one of diffusers, visited, got 'next'"),
    ({"variance": "large"}, "variance must be one of ddim, larger, got 'large'"),
    ({"clip_sample": 1}, "clip_sample must be true or false, got 1"),
    ({"clip_sample_range": 0}, "clip_sample_range must be a finite number above 0, got 0"),
    ({"clip_sample_range": math.inf}, "clip_sample_range must be a finite number above 0, got inf"),
    ({"sample_max_value": -1.0}, "sample_max_value must be a finite number above 0, got -1.0"),
    ({"dynamic_thresholding_ratio": 1.01}, "dynamic_thresholding_ratio must be a number in [0, 1], got 1.01"),
    ({"trained_betas": "0.1"}, "trained_betas must be a list of numbers, got '0.1'"),
    ({"trained_betas": np.array(0.1)}, "trained_betas must be a list of numbers, got array(0.1)"),
    ({"trained_betas": {0: 0.1}}, "trained_betas must be a list of numbers, got {0: 0.1}"),
    ({"trained_betas": [0.1, 2.0], "num_train_timesteps": 2}, "trained_betas[1] must be a number in [0, 1], got 2.0"),
    ({"trained_betas": [[0.1]], "num_train_timesteps": 1}, "trained_betas[0] must be a number in [0, 1], got [0.1]"),
    (
        {"trained_betas": [0.1, 0.2]},
        "trained_betas must hold num_train_timesteps=1000 betas, got 2; set num_train_timesteps=2",
    ),
    (
        {"num_train_timesteps": 1, "rescale_betas_zero_snr": True},
        "num_train_timesteps must be at least 2 with rescale_betas_zero_snr, got 1",
    ),
    ({"timestep_spacing": "quad"}, "timestep_pairs must be visited with timestep_spacing=quad, got diffusers"),
]


@pytest.mark.parametrize(("parameters", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_value_that_cannot_be_used_is_refused_by_name_with_its_rule(parameters: dict[str, Any], message: str) -> None:
    """A person who mistyped one parameter learns which, what it may be, and what was read."""
    with pytest.raises(ScheduleError) as refusal:
        ScheduleConfig(**parameters)
    assert str(refusal.value).startswith(message)


def test_every_named_choice_is_accepted() -> None:
    """The public tuples of allowed values are the ones that the check uses."""
    for beta_schedule in BETA_SCHEDULES:
        ScheduleConfig(beta_schedule=beta_schedule)
    for prediction_type in PREDICTION_TYPES:
        ScheduleConfig(prediction_type=prediction_type)
    for timestep_spacing in TIMESTEP_SPACINGS:
        ScheduleConfig(timestep_spacing=timestep_spacing, timestep_pairs="visited")
    for variance in VARIANCES:
        ScheduleConfig(variance=variance)
    for timestep_pairs in TIMESTEP_PAIRS:
        ScheduleConfig(timestep_pairs=timestep_pairs)


def test_a_long_value_is_cut_in_the_message() -> None:
    """A list of a million numbers in the wrong place does not fill the log."""
    with pytest.raises(ScheduleError) as refusal:
        ScheduleConfig(beta_start="9" * 100_000)  # type: ignore[arg-type]
    assert len(str(refusal.value)) < 200


def test_a_schedule_error_is_an_input_error_and_a_value_error() -> None:
    """Callers of diffusers catch ValueError; the command line ends with the code for bad input."""
    assert issubclass(ScheduleError, ValueError)
    assert issubclass(ScheduleError, InputError)


def test_a_config_cannot_be_changed() -> None:
    """Tables are cached by configuration, so a configuration must stay what it was."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        ScheduleConfig().beta_start = 0.1  # type: ignore[misc]


def test_equal_configs_hash_alike_whatever_number_types_they_came_from() -> None:
    """JSON's ints and NumPy's scalars and arrays must not make a second table of the same schedule."""
    plain = ScheduleConfig(trained_betas=(0.25, 0.5), num_train_timesteps=2, clip_sample_range=1.0)
    numpy = ScheduleConfig(
        trained_betas=np.array([0.25, 0.5]),  # type: ignore[arg-type]
        num_train_timesteps=np.int64(2),  # type: ignore[arg-type]
        clip_sample_range=1,
        clip_sample=np.True_,  # type: ignore[arg-type]
    )
    assert numpy == plain
    assert hash(numpy) == hash(plain)
    assert type(numpy.clip_sample_range) is float
    assert type(numpy.num_train_timesteps) is int
    assert numpy.clip_sample is True


def test_a_published_scheduler_config_is_read_with_foreign_names_ignored() -> None:
    """The scheduler_config.json of Stable Diffusion 1.5 was written by another scheduler class."""
    config = ScheduleConfig.from_mapping(STABLE_DIFFUSION_1_5, ignore_unknown=True)
    assert config == ScheduleConfig(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        set_alpha_to_one=False,
        steps_offset=1,
        clip_sample=False,
    )


def test_unknown_names_are_refused_with_the_known_ones_listed() -> None:
    """A misspelt parameter must not be dropped without a word."""
    with pytest.raises(
        ScheduleError, match=r"must be among num_train_timesteps, .*timestep_pairs, variance, got beta_strat, eta$"
    ):
        ScheduleConfig.from_mapping({"eta": 0.5, "beta_strat": 0.1})


def test_overrides_replace_only_what_they_name() -> None:
    """A request changes the checkpoint's schedule where it says so and nowhere else."""
    base = ScheduleConfig(steps_offset=1, clip_sample=False)
    changed = base.replace_with({"timestep_spacing": "trailing"})
    assert changed == ScheduleConfig(steps_offset=1, clip_sample=False, timestep_spacing="trailing")
    assert base.replace_with({}) == base


def test_overrides_are_checked_like_a_config() -> None:
    """An override can neither bring an unknown name nor a value out of range."""
    with pytest.raises(ScheduleError, match=r"got nope$"):
        ScheduleConfig().replace_with({"nope": 1})
    with pytest.raises(ScheduleError, match="beta_end must be"):
        ScheduleConfig().replace_with({"beta_end": -1})


@pytest.mark.parametrize("variance", VARIANCES)
def test_what_is_new_is_written_only_where_it_is_used(variance: str) -> None:
    """A plan or a row that does not use the larger variance is read by workers that know no such parameter."""
    config = ScheduleConfig(timestep_spacing="trailing", variance=variance)
    mapping = config.to_mapping()
    assert ("variance" in mapping) == (variance != "ddim")
    assert set(PARAMETER_NAMES) - set(mapping) <= {"variance"}
    assert ScheduleConfig.from_mapping(mapping) == config
