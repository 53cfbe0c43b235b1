"""Nulls in saved scheduler configurations: taken as mindone takes them, and refused where it fails."""

from __future__ import annotations

from typing import Any

import pytest

from ddim_core.errors import ScheduleError
from ddim_core.schedule import ScheduleConfig
from ddim_core.schedule.nulls import UNBOUNDED


def read(**config: Any) -> ScheduleConfig:
    return ScheduleConfig.from_mapping(config, ignore_unknown=True)


@pytest.mark.parametrize("name", ["clip_sample", "set_alpha_to_one", "thresholding", "rescale_betas_zero_snr"])
def test_a_flag_that_is_null_is_off(name: str) -> None:
    """Mindone and diffusers only ever test it for truth."""
    assert getattr(read(**{name: None}), name) is False


def test_a_threshold_without_a_bound_is_bounded_by_nothing() -> None:
    """It is the maximum of a clamp, and null is none there; no float32 is cut by ours."""
    assert read(sample_max_value=None, thresholding=True).sample_max_value == UNBOUNDED
    assert read(sample_max_value=None).thresholding is False


@pytest.mark.parametrize(
    "config",
    [
        {"beta_start": None, "beta_end": None, "beta_schedule": "squaredcos_cap_v2"},
        {"beta_start": None, "beta_end": None, "beta_schedule": None, "trained_betas": [0.1] * 1000},
        {"clip_sample_range": None, "clip_sample": False},
        {"clip_sample_range": None, "clip_sample": None},
        {"dynamic_thresholding_ratio": None},
        {"steps_offset": None, "timestep_spacing": "trailing"},
        {"timestep_pairs": None},
    ],
)
def test_what_nothing_reads_may_be_null(config: dict[str, Any]) -> None:
    """It has its default then, for requests that have it read."""
    filled = read(**config)
    standard = ScheduleConfig()
    assert all(
        getattr(filled, name) == getattr(standard, name)
        for name in config
        if config[name] is None and name != "clip_sample"
    )


@pytest.mark.parametrize(
    "config",
    [
        {"beta_start": None},
        {"beta_schedule": None},
        {"num_train_timesteps": None},
        {"prediction_type": None},
        {"timestep_spacing": None},
        {"steps_offset": None},
        {"clip_sample_range": None},
        {"dynamic_thresholding_ratio": None, "thresholding": True},
    ],
)
def test_a_null_that_mindone_fails_on_is_refused(config: dict[str, Any]) -> None:
    """Nobody knows what was meant; the message names the parameter."""
    name = next(name for name, value in config.items() if value is None)
    with pytest.raises(ScheduleError, match=rf"^{name} must be .*, got None"):
        read(**config)


def test_a_request_gives_no_nulls() -> None:
    """It leaves a parameter out instead; a null there is a slip."""
    with pytest.raises(ScheduleError, match="sample_max_value must be"):
        ScheduleConfig().replace_with({"sample_max_value": None})
    with pytest.raises(ScheduleError, match="sample_max_value must be"):
        ScheduleConfig.from_mapping({"sample_max_value": None})
