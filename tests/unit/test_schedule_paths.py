"""Ways through the timesteps: the look at x_0 on the way down, and the way up by which an image becomes its noise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ddim_core.errors import ScheduleError
from ddim_core.schedule import DOWN, Glimpse, RoundTrip, ScheduleConfig, StepTable, alpha_bar, path_tables, step_table
from ddim_core.schedule import upward_table as up

EPSILON = ScheduleConfig(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
V = EPSILON.replace_with(
    {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
)
SAMPLE = EPSILON.replace_with({"prediction_type": "sample", "set_alpha_to_one": False})
ALL = pytest.mark.parametrize("config", [EPSILON, V, SAMPLE], ids=["epsilon", "v", "sample"])

_MEAN, _STD = 0.3, 0.6
"""Of the data that the exact denoiser below knows."""


def advance(table: StepTable, i: int, x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Take step ``i`` as the device does."""
    x0 = table.x0_from_x[i] * x + table.x0_from_out[i] * out
    eps = table.eps_from_x[i] * x + table.eps_from_out[i] * out
    return table.prev_from_x0[i] * x0 + table.prev_from_eps[i] * eps


def exact_output(config: ScheduleConfig, t: int, x: np.ndarray) -> np.ndarray:
    """Return what a perfect denoiser says of data that are N(_MEAN, _STD^2): linear in x."""
    signal, noise = np.sqrt(alpha_bar(config)[t]), np.sqrt(1 - alpha_bar(config)[t])
    gain = 1 / (signal**2 * _STD**2 + noise**2)
    x0 = _MEAN + signal * _STD**2 * gain * (x - signal * _MEAN)
    eps = noise * gain * (x - signal * _MEAN)
    return {"epsilon": eps, "sample": x0, "v_prediction": signal * eps - noise * x0}[config.prediction_type]


def follow(config: ScheduleConfig, tables: tuple[StepTable, ...], x: np.ndarray) -> list[np.ndarray]:
    """Return x after each table, with the exact denoiser."""
    after = []
    for table in tables:
        for i, t in enumerate(table.timesteps):
            x = advance(table, i, x, exact_output(config, t, x))
        after.append(x)
    return after


@ALL
@pytest.mark.parametrize("pairs", ["diffusers", "visited"])
@pytest.mark.parametrize("steps", [3, 20, 30])
def test_a_step_up_undoes_the_step_down_for_the_same_model_output(
    config: ScheduleConfig, pairs: str, steps: int
) -> None:
    """Only the model's argument differs between the ways: with one output for both, they are each other's inverse."""
    config = config.replace_with({"timestep_pairs": pairs})
    down, upward = step_table(config, steps), up(config, steps)
    rng = np.random.default_rng(0)
    x, out = rng.normal(size=(2, 5))
    for i in range(steps):
        back = advance(upward, steps - 1 - i, advance(down, i, x, out), out)
        np.testing.assert_allclose(back, x, rtol=0, atol=1e-9)  # division by up to a thousandth of float64's 1e-16
    assert (upward.timesteps == down.timesteps[::-1]).all()


def test_the_way_up_of_a_noise_prediction_is_the_papers_ode_read_upwards() -> None:
    """Eq. (13) with the signs of dt turned: x / sqrt(a) changes by eps times the change of sqrt((1 - a) / a)."""
    table = up(EPSILON, 20)
    x, eps = np.random.default_rng(1).normal(size=(2, 4))
    for i in range(20):
        a, a_next = table.alpha_bar[i], table.alpha_bar_prev[i]
        ode = np.sqrt(a_next) * (x / np.sqrt(a) + (np.sqrt((1 - a_next) / a_next) - np.sqrt((1 - a) / a)) * eps)
        np.testing.assert_allclose(advance(table, i, x, eps), ode, rtol=1e-12)


@ALL
def test_reconstruction_with_an_exact_denoiser_gets_better_with_every_step_count(config: ScheduleConfig) -> None:
    """The two ways meet in the limit: the error at least halves from one step count to the next."""
    x = np.linspace(-1.5, 1.5, 9)
    errors = []
    for steps in (10, 20, 50, 100, 200, 500, 1000):
        _, back = follow(config, path_tables(config, steps, 0.0, RoundTrip()), x)
        errors.append(np.mean((back - x) ** 2))
    assert all(later < earlier / 2 for earlier, later in pairwise(errors)), errors
    assert errors[-1] < 1e-5


@ALL
def test_the_way_up_ends_at_the_noise_that_the_ode_leads_to(config: ScheduleConfig) -> None:
    """For Gaussian data the exact flow keeps how many deviations x lies from the mean; the steps come to it."""
    x = np.linspace(-1.5, 1.5, 9)
    a_T = alpha_bar(config)[-1]
    exact = np.sqrt(a_T) * _MEAN + np.sqrt(a_T * _STD**2 + 1 - a_T) * (x - _MEAN) / _STD
    errors = [np.abs(follow(config, (up(config, steps),), x)[0] - exact).max() for steps in (100, 1000)]
    assert errors[1] < errors[0] / 5
    assert errors[1] < 0.02  # of a deviation of about 1, after steps that each miss by their own square


def test_a_glimpse_takes_the_same_steps_and_ends_at_the_predicted_x0() -> None:
    """Its steps but the last are the way's own; the last leads to x0, which Eq. (12) with alpha_bar 1 gives."""
    table, (glimpse,) = step_table(V, 20, 0.5), path_tables(V, 20, 0.5, Glimpse(7))
    assert len(glimpse) == Glimpse(7).num_steps(20) == 7
    assert (glimpse.prev_from_eps[:-1] == table.prev_from_eps[:6]).all()
    assert (glimpse.sigma[:-1] == table.sigma[:6]).all() and (glimpse.x0_from_out == table.x0_from_out[:7]).all()
    last = (glimpse.prev_from_x0[-1], glimpse.prev_from_eps[-1], glimpse.sigma[-1])
    assert last == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("config", [V, EPSILON.replace_with({"set_alpha_to_one": False})], ids=["to x_0", "above it"])
def test_a_glimpse_after_all_steps_is_the_way_itself(config: ScheduleConfig, eta: float) -> None:
    """So the last frame of a trace is the image, to the bit, wherever the schedule ends."""
    for steps in (6, 20):
        assert path_tables(config, steps, eta, Glimpse(steps)) == path_tables(config, steps, eta, DOWN)


def test_a_round_trip_leaves_x0_unbounded_on_the_way_up() -> None:
    """What a bound cuts off could not be found again on the way down."""
    upward, down = path_tables(EPSILON.replace_with({"clip_sample": True}), 10, 0.0, RoundTrip())
    assert upward.clip_sample_range is None and down.clip_sample_range == 1.0
    assert len(upward) + len(down) == RoundTrip().num_steps(10) == 20


def test_schedules_whose_steps_cannot_be_turned_around_are_refused() -> None:
    """A step onto the predicted x_0 itself forgets x: one line says so, and what to change."""
    with pytest.raises(ScheduleError, match="set_alpha_to_one must be false to invert with prediction_type=sample"):
        up(SAMPLE.replace_with({"set_alpha_to_one": True}), 20)
    with pytest.raises(ScheduleError, match="num_inference_steps must be at least 2 to invert"):
        up(V, 1)


@ALL
def test_a_glimpse_shows_the_x0_that_the_denoiser_predicts_there(config: ScheduleConfig) -> None:
    """After k - 1 steps of the way, what its k-th step takes for x_0, before it adds noise again."""
    x, table = np.linspace(-1.5, 1.5, 9), step_table(config, 20)
    for k in range(1, 20):
        out = exact_output(config, int(table.timesteps[k - 1]), x)
        (seen,) = follow(config, path_tables(config, 20, 0.0, Glimpse(k)), np.linspace(-1.5, 1.5, 9))
        np.testing.assert_allclose(seen, table.x0_from_x[k - 1] * x + table.x0_from_out[k - 1] * out, rtol=1e-12)
        x = advance(table, k - 1, x, out)
