"""betas, alpha_bar and the step table, against direct formulas."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ddim_core.errors import ScheduleError
from ddim_core.schedule import (
    BETA_SCHEDULES,
    PREDICTION_TYPES,
    TIMESTEP_SPACINGS,
    ScheduleConfig,
    StepTable,
    alpha_bar,
    betas,
    step_table,
    table_of_all_timesteps,
    unbounded_factors,
    update_factors,
)

ZERO_SNR = ScheduleConfig(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")


def test_linear_betas_run_from_start_to_end() -> None:
    """Ho et al. 2020: 0.0001 to 0.02."""
    assert betas(ScheduleConfig(num_train_timesteps=3)).tolist() == [0.0001, (0.0001 + 0.02) / 2, 0.02]


def test_scaled_linear_betas_are_squares_of_evenly_spaced_roots() -> None:
    """The schedule of Stable Diffusion."""
    config = ScheduleConfig(num_train_timesteps=3, beta_schedule="scaled_linear", beta_start=0.01, beta_end=0.09)
    assert betas(config) == pytest.approx([0.01, 0.04, 0.09], rel=1e-15)


def test_cosine_betas_follow_the_squared_cosine_up_to_the_cap() -> None:
    """Nichol & Dhariwal 2021, Eq. (17), with s = 0.008 and betas of at most 0.999."""
    config = ScheduleConfig(num_train_timesteps=4, beta_schedule="squaredcos_cap_v2")
    curve = [math.cos((i / 4 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(5)]
    direct = [min(1 - after / before, 0.999) for before, after in itertools.pairwise(curve)]
    assert direct[-1] == 0.999
    assert betas(config) == pytest.approx(direct, rel=1e-14)


def test_trained_betas_take_the_place_of_the_named_schedule() -> None:
    """And alpha_bar is the running product of 1 - beta."""
    config = ScheduleConfig(num_train_timesteps=3, trained_betas=(0.5, 0.5, 0.75))
    assert betas(config).tolist() == [0.5, 0.5, 0.75]
    assert alpha_bar(config).tolist() == [0.5, 0.25, 0.0625]


@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
def test_zero_snr_rescale_ends_at_exactly_zero_and_keeps_the_first_alpha_bar(beta_schedule: str) -> None:
    """Lin et al. 2024, Algorithm 1; a last alpha_bar of 1e-9 would leak the mean of the image."""
    plain = alpha_bar(ScheduleConfig(beta_schedule=beta_schedule))
    rescaled = alpha_bar(ScheduleConfig(beta_schedule=beta_schedule, rescale_betas_zero_snr=True))
    assert rescaled[-1] == 0.0
    assert rescaled[0] == pytest.approx(plain[0], rel=1e-15)
    assert (np.diff(rescaled) < 0).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"beta_start": 0, "beta_end": 0},
        {"num_train_timesteps": 2, "beta_end": 0},
        {"num_train_timesteps": 2, "trained_betas": (1.0, 0.5)},
        {"num_train_timesteps": 3, "beta_start": 1e-20, "beta_end": 1e-20},
    ],
)
def test_a_zero_snr_rescale_of_betas_that_add_no_noise_is_refused(parameters: dict[str, Any]) -> None:
    """No factor brings a constant alpha_bar down to 0 and leaves its start; the person learns what to raise."""
    config = ScheduleConfig(rescale_betas_zero_snr=True, prediction_type="v_prediction", **parameters)
    for compute in (alpha_bar, betas, lambda config: step_table(config, 1)):
        with pytest.raises(ScheduleError, match=r"betas must add noise after .*; raise beta_end or set rescale_"):
            compute(config)


def test_betas_are_one_once_no_signal_is_left() -> None:
    """There 0 / 0 says nothing about them, and the rescale may reach 0 before the last timestep."""
    config = ScheduleConfig(
        num_train_timesteps=3, trained_betas=(0.1, 0.5, 0.0), rescale_betas_zero_snr=True, prediction_type="sample"
    )
    assert alpha_bar(config).tolist() == [pytest.approx(0.9), 0.0, 0.0]
    assert betas(config).tolist() == [pytest.approx(0.1), 1.0, 1.0]


def test_rescaled_betas_give_the_rescaled_alpha_bar() -> None:
    """The two views of the schedule must not drift apart; the last beta is 1."""
    assert np.cumprod(1.0 - betas(ZERO_SNR)) == pytest.approx(alpha_bar(ZERO_SNR), rel=1e-9)
    assert betas(ZERO_SNR)[-1] == 1.0


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
def test_coefficients_recover_x0_and_eps_from_what_the_denoiser_predicts(prediction_type: str, spacing: str) -> None:
    """Build x from known x0 and eps (Eq. 4), let a perfect denoiser answer, and get both back."""
    config = ScheduleConfig(prediction_type=prediction_type, timestep_spacing=spacing, timestep_pairs="visited")
    table = step_table(config, 20)
    x0, eps = 0.7, -1.3
    signal, noise = np.sqrt(table.alpha_bar), np.sqrt(1 - table.alpha_bar)
    x = signal * x0 + noise * eps
    out = {"epsilon": eps, "sample": x0, "v_prediction": signal * eps - noise * x0}[prediction_type]
    # A step near T divides by sqrt(alpha_bar) = 0.006, and one at t = 0 by sqrt(1 - alpha_bar) = 0.01.
    assert table.x0_from_x * x + table.x0_from_out * out == pytest.approx(np.full(20, x0), rel=1e-11)
    assert table.eps_from_x * x + table.eps_from_out * out == pytest.approx(np.full(20, eps), rel=1e-11)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_last_step_ends_on_x0_without_noise(eta: float) -> None:
    """With set_alpha_to_one, the last step returns x0 itself whatever eta is."""
    table = step_table(ScheduleConfig(), 10, eta)
    assert (table.prev_from_x0[-1], table.prev_from_eps[-1], table.sigma[-1]) == (1.0, 0.0, 0.0)


def test_without_set_alpha_to_one_the_last_step_ends_on_the_noise_of_timestep_zero() -> None:
    """Stable Diffusion's configuration."""
    table = step_table(ScheduleConfig(set_alpha_to_one=False, steps_offset=1), 10)
    assert table.alpha_bar_prev[-1] == 1 - 0.0001


def test_eta_scales_sigma_and_zero_means_none() -> None:
    """Eq. (16) is linear in eta."""
    half, full = step_table(ScheduleConfig(), 10, 0.5), step_table(ScheduleConfig(), 10, 1.0)
    assert half.sigma == pytest.approx(full.sigma / 2, rel=1e-15)
    assert (step_table(ScheduleConfig(), 10).sigma == 0).all()


@given(
    steps=st.integers(2, 1000),
    spacing=st.sampled_from(TIMESTEP_SPACINGS),
    schedule=st.sampled_from(BETA_SCHEDULES),
    prediction_type=st.sampled_from(PREDICTION_TYPES),
    set_alpha_to_one=st.booleans(),
    zero_snr=st.booleans(),
)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_the_larger_variance_changes_nothing_but_the_noise(
    steps: int, spacing: str, schedule: str, prediction_type: str, set_alpha_to_one: bool, zero_snr: bool
) -> None:
    """Its mean is that of eta = 1, its noise sqrt(1 - a_t / a_prev), and none on the way to x_0 itself."""
    assume(not (zero_snr and prediction_type == "epsilon"))
    config = ScheduleConfig(
        beta_schedule=schedule,
        prediction_type=prediction_type,
        timestep_spacing=spacing,
        timestep_pairs="visited",
        set_alpha_to_one=set_alpha_to_one,
        rescale_betas_zero_snr=zero_snr,
    )
    usual = step_table(config, steps, 1.0)
    larger = step_table(dataclasses.replace(config, variance="larger"), steps, 1.0)
    for field in dataclasses.fields(StepTable):
        if field.name not in ("sigma", "larger_variance"):
            np.testing.assert_array_equal(getattr(larger, field.name), getattr(usual, field.name))
    noisy = larger.alpha_bar_prev < 1
    assert larger.sigma**2 == pytest.approx(np.where(noisy, 1 - larger.alpha_bar / larger.alpha_bar_prev, 0), rel=1e-12)
    assert (larger.sigma >= usual.sigma * (1 - 1e-12)).all()


@pytest.mark.parametrize("eta", [0, 0.5, np.nextafter(1, 0)])
def test_the_larger_variance_takes_eta_one(eta: float) -> None:
    """It has a row of its own in the paper's table: there is no share of it."""
    config = ScheduleConfig(variance="larger")
    for table in (step_table, table_of_all_timesteps):
        with pytest.raises(ScheduleError, match=r"^eta must be 1 with variance=larger, got .*; give eta=1, or leave"):
            table(config, 10, eta)


def test_no_table_adds_more_noise_than_it_removes_but_the_larger_one() -> None:
    """The check of the variances still guards all others."""
    table = step_table(ScheduleConfig(variance="larger"), 10, 1.0)
    with pytest.raises(AssertionError):
        dataclasses.replace(table, larger_variance=False)
    with pytest.raises(AssertionError):
        dataclasses.replace(table, prev_from_eps=table.prev_from_eps * 1.01)


@pytest.mark.parametrize("steps", range(1, 101))
def test_zero_snr_with_full_noise_is_finite_and_starts_from_x0_and_noise_alone(steps: int) -> None:
    """1 - alpha_bar_prev - sigma^2 is exactly 0 at the first step; rounded below, it gives NaN in mindone."""
    table = step_table(ZERO_SNR, steps, 1.0)
    assert table.prev_from_eps[0] == 0.0
    assert table.alpha_bar[0] == 0.0


def test_clipping_and_thresholding_are_told_apart() -> None:
    """Thresholding replaces clipping, as in diffusers."""
    clips = step_table(ScheduleConfig(clip_sample_range=2), 5)
    assert (clips.clip_sample_range, clips.dynamic_thresholding_ratio, clips.sample_max_value) == (2.0, None, None)
    thresholds = step_table(ScheduleConfig(thresholding=True, sample_max_value=1.5), 5)
    assert thresholds.clip_sample_range is None
    assert (thresholds.dynamic_thresholding_ratio, thresholds.sample_max_value) == (0.995, 1.5)
    neither = step_table(ScheduleConfig(clip_sample=False), 5)
    assert (neither.clip_sample_range, neither.dynamic_thresholding_ratio, neither.sample_max_value) == (None,) * 3


def test_equal_arguments_give_the_same_table() -> None:
    """The engine keeps one set of rows on the device for each table, and finds them by the table itself."""
    table = step_table(ScheduleConfig(), 50, 0)
    assert step_table(ScheduleConfig(), np.int64(50), eta=0.0) is table  # type: ignore[arg-type]
    assert step_table(ScheduleConfig(), 50, 1) is not table
    assert {table: "rows"}[step_table(ScheduleConfig(), 50)] == "rows"


def test_a_table_cannot_be_changed() -> None:
    """It is shared by every sample that uses the schedule."""
    table = step_table(ScheduleConfig(), 5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.sigma = table.alpha_bar  # type: ignore[misc]
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                value[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        alpha_bar(ScheduleConfig())[0] = 0


@pytest.mark.parametrize("name", ["x0_from_x", "x0_from_out", "eps_from_x", "prev_from_x0", "prev_from_eps", "sigma"])
def test_a_table_with_one_wrong_coefficient_cannot_be_made(name: str) -> None:
    """The table checks its own maths: the forward process holds, and the variance adds up to one."""
    table = step_table(ScheduleConfig(), 5, 0.5)
    with pytest.raises(AssertionError):
        dataclasses.replace(table, **{name: getattr(table, name) + 0.001})


def test_a_table_with_nan_or_a_missing_row_cannot_be_made() -> None:
    """NaN compares false with everything, so it is looked for by name."""
    table = step_table(ScheduleConfig(), 5)
    with pytest.raises(AssertionError):
        dataclasses.replace(table, sigma=np.full(5, np.nan))
    with pytest.raises(AssertionError):
        dataclasses.replace(table, sigma=table.sigma[:-1])


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan, math.inf, True, "0", None])
def test_an_eta_outside_zero_to_one_is_refused(eta: object) -> None:
    """Above 1, 1 - alpha_bar_prev - sigma^2 turns negative."""
    with pytest.raises(ScheduleError, match=r"eta must be a number in \[0, 1\], got "):
        step_table(ScheduleConfig(), 5, eta)  # type: ignore[arg-type]


def test_eps_prediction_without_signal_is_refused_with_the_remedy() -> None:
    """Mindone divides by zero at the first step."""
    message = (
        r"prediction_type must be v_prediction or sample where timestep 999 is visited, got epsilon: "
        r".*zero terminal SNR.*use a model that predicts v, or set rescale_betas_zero_snr=false"
    )
    with pytest.raises(ScheduleError, match=message):
        step_table(ScheduleConfig(rescale_betas_zero_snr=True, timestep_spacing="trailing"), 10)


def test_eps_prediction_at_zero_snr_is_allowed_where_the_last_timestep_is_not_visited() -> None:
    """Leading spacing with 10 steps starts at timestep 900, which has signal."""
    assert np.isfinite(step_table(ScheduleConfig(rescale_betas_zero_snr=True), 10).x0_from_x).all()


def test_a_visited_timestep_without_noise_is_refused() -> None:
    """beta_start = 0 leaves no noise at timestep 0, and Eq. (16) becomes 0 / 0 there."""
    with pytest.raises(ScheduleError, match="beta_start must be above 0 where timestep 0 is visited"):
        step_table(ScheduleConfig(beta_start=0), 10)
    assert len(step_table(ScheduleConfig(beta_start=0, timestep_spacing="trailing"), 10)) == 10


def test_a_step_to_a_timestep_without_signal_is_refused() -> None:
    """Betas so large that alpha_bar vanishes before the end."""
    config = ScheduleConfig(beta_start=0.9, beta_end=0.99, prediction_type="v_prediction")
    with pytest.raises(
        ScheduleError, match=r"betas must be lower: the step from timestep \d+ leads to one without signal"
    ):
        step_table(config, 1000)


@pytest.mark.parametrize("pairs", ["diffusers", "visited"])
def test_the_table_of_all_timesteps_holds_the_rows_of_the_step_table(pairs: str) -> None:
    """A scheduler that is asked by timestep gives what the engine gives by row."""
    config = dataclasses.replace(ZERO_SNR, timestep_pairs=pairs)
    every, visited = table_of_all_timesteps(config, 30, 0.5), step_table(config, 30, 0.5)
    assert every.timesteps.tolist() == list(range(1000))
    for field in dataclasses.fields(StepTable):
        if isinstance(getattr(visited, field.name), np.ndarray):
            assert (getattr(every, field.name)[visited.timesteps] == getattr(visited, field.name)).all()


def test_the_table_of_all_timesteps_leaves_out_what_has_no_coefficients() -> None:
    """Timestep 999 has no signal and is not visited."""
    table = table_of_all_timesteps(ScheduleConfig(rescale_betas_zero_snr=True), 10)
    assert table.timesteps.tolist() == list(range(999))


@pytest.mark.parametrize("clipped_eps", [False, True])
def test_fused_factors_give_the_same_step_as_the_terms_one_by_one(clipped_eps: bool) -> None:
    """Spreading the direction term over x0, x and the output changes nothing but the rounding."""
    table = step_table(ScheduleConfig(), 20, 0.7)
    x, out, z = 0.4, -0.9, 1.6
    f0, f1, f2, f3, f4, f5 = update_factors(table, clipped_eps=clipped_eps).T
    x0 = np.clip(table.x0_from_x * x + table.x0_from_out * out, -1, 1)
    eps = table.eps_from_x * x + table.eps_from_out * out
    if clipped_eps:
        eps = (x - np.sqrt(table.alpha_bar) * x0) / np.sqrt(1 - table.alpha_bar)
    one_by_one = table.prev_from_x0 * x0 + table.prev_from_eps * eps + table.sigma * z
    assert np.clip(f0 * x + f1 * out, -1, 1) == pytest.approx(x0, rel=1e-12)
    assert f2 * x0 + f3 * x + f4 * out + f5 * z == pytest.approx(one_by_one, rel=1e-12)


def test_factors_without_a_bound_give_the_same_step_as_through_x0() -> None:
    """An update that bounds nothing needs no x0 on the way to x_prev."""
    factors = update_factors(step_table(ScheduleConfig(clip_sample=False), 20, 0.7))
    x, out, z = 0.4, -0.9, 1.6
    f0, f1, f2, f3, f4, f5 = factors.T
    g0, g1, g2, g3, g4 = unbounded_factors(factors).T
    x0 = f0 * x + f1 * out
    assert g0 * x + g1 * out == pytest.approx(x0, rel=1e-12)
    assert g2 * x + g3 * out + g4 * z == pytest.approx(f2 * x0 + f3 * x + f4 * out + f5 * z, rel=1e-12)
