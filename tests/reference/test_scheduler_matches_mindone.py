"""DDIMScheduler against ``mindone.diffusers.DDIMScheduler`` and against the formulas in float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
from ddim_core.sampling import device  # noqa: E402 - needs MindSpore

device.start("CPU")  # before anything imports mindone
with device.quiet_import():
    from mindone.diffusers import DDIMScheduler as MindoneScheduler

    from ddim_core.errors import ScheduleError
    from ddim_core.sampling.scheduler import DDIMScheduler

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]

Array = np.ndarray[Any, Any]

SHAPE = (2, 3, 8, 8)
STEPS = (1, 2, 10, 50, 1000)
ETAS = (0.0, 0.5, 1.0)
# float32 has 24 bits; mindone multiplies a thousand rounded alphas and divides by sqrt(alpha_bar).
MINDONE_TOLERANCE = 1e-5
# x0 from eps is 158 (x - out) at the last of 1000 linear timesteps: an error of 6e-8 in x becomes 1e-5, against a
# clipped x0 of 1. Drawn samples meet about a third of that; most steps agree to 2e-7.
FORMULA_TOLERANCE = 5e-6

ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
ONE_AT_A_TIME: list[dict[str, Any]] = [
    {},
    {"num_train_timesteps": 1500},
    {"beta_start": 0.001, "beta_end": 0.01},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": np.linspace(0.001, 0.03, 1000).tolist()},
    {"clip_sample": False},
    {"clip_sample_range": 0.5},
    {"set_alpha_to_one": False},
    {"steps_offset": 1},
    {"prediction_type": "sample"},
    {"prediction_type": "v_prediction"},
    {"thresholding": True},
    {"thresholding": True, "sample_max_value": 1.5},
    {"thresholding": True, "sample_max_value": 0.5},
    {"thresholding": True, "sample_max_value": 3.0, "dynamic_thresholding_ratio": 0.7},
    {"timestep_spacing": "trailing"},
    {"timestep_spacing": "linspace"},
    {"rescale_betas_zero_snr": True},
    {**ZERO_SNR, "prediction_type": "v_prediction", "clip_sample": False},
    {**ZERO_SNR, "prediction_type": "sample"},
]


def draw(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


X, OUT, Z = draw(1), draw(2), draw(3)


def formula_alpha_bar(config: Any) -> Array:
    total = config.num_train_timesteps
    if config.trained_betas is not None:
        betas = np.array(config.trained_betas)
    elif config.beta_schedule == "linear":
        betas = np.linspace(config.beta_start, config.beta_end, total)
    elif config.beta_schedule == "scaled_linear":
        betas = np.linspace(config.beta_start**0.5, config.beta_end**0.5, total) ** 2
    else:
        curve = [math.cos((i / total + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(total + 1)]
        betas = np.array([min(1 - after / before, 0.999) for before, after in itertools.pairwise(curve)])
    root = np.sqrt(np.cumprod(1 - betas))
    if config.rescale_betas_zero_snr:
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return np.asarray(root**2)


def formula_bounded(config: Any, x0: Array) -> Array:
    if config.thresholding:
        s = np.quantile(np.abs(x0).reshape(len(x0), -1), config.dynamic_thresholding_ratio, axis=1)
        s = np.minimum(np.maximum(s, 1), config.sample_max_value).reshape(-1, 1, 1, 1)
        return np.asarray(np.minimum(np.maximum(x0, -s), s) / s)
    if config.clip_sample:
        return np.clip(x0, -config.clip_sample_range, config.clip_sample_range)
    return x0


def formula_alphas(config: Any, steps: int, t: int) -> tuple[float, float]:
    curve, s = formula_alpha_bar(config), t - config.num_train_timesteps // steps
    return float(curve[t]), float(curve[s]) if s >= 0 else (1.0 if config.set_alpha_to_one else float(curve[0]))


def formula_step(config: Any, steps: int, t: int, eta: float, clipped: bool) -> tuple[Array, Array]:
    """Eq. (12) and (16) in float64, as they stand in the paper, with mindone's previous timestep."""
    a_t, a_prev = formula_alphas(config, steps, t)
    x, out, z = X.astype(np.float64), OUT.astype(np.float64), Z.astype(np.float64)
    if config.prediction_type == "epsilon":
        x0, eps = (x - (1 - a_t) ** 0.5 * out) / a_t**0.5, out
    elif config.prediction_type == "sample":
        x0, eps = out, (x - a_t**0.5 * out) / (1 - a_t) ** 0.5
    else:
        x0, eps = a_t**0.5 * x - (1 - a_t) ** 0.5 * out, a_t**0.5 * out + (1 - a_t) ** 0.5 * x
    x0 = formula_bounded(config, x0)
    if clipped:
        eps = (x - a_t**0.5 * x0) / (1 - a_t) ** 0.5
    sigma = eta * ((1 - a_prev) / (1 - a_t)) ** 0.5 * (1 - a_t / a_prev) ** 0.5
    return a_prev**0.5 * x0 + max(1 - a_prev - sigma**2, 0.0) ** 0.5 * eps + sigma * z, x0


def assert_close(actual: Any, expected: Any, tolerance: float, at: object) -> None:
    __tracebackhide__ = True
    difference = np.abs(actual - expected).max() / np.abs(expected).max()
    assert difference <= tolerance, f"{difference:.2e} of the largest value at {at}"


def first_middle_last(timesteps: Array) -> list[int]:
    return sorted({int(timesteps[0]), int(timesteps[len(timesteps) // 2]), int(timesteps[-1])})


def step_of(scheduler: Any, t: int, eta: float, clipped: bool) -> tuple[Array, Array]:
    out, x, z = ms.Tensor(OUT), ms.Tensor(X), ms.Tensor(Z)
    x_prev, x0 = scheduler.step(out, t, x, eta=eta, use_clipped_model_output=clipped, variance_noise=z)
    return x_prev.asnumpy(), x0.asnumpy()


def mindone_tolerance(config: Any, steps: int, t: int, eta: float) -> float:
    """Return how far mindone's x_prev may be from ours.

    mindone takes the root of 1 - alpha_bar_prev - sigma^2 in float32, whose rounding of up to 2e-7 moves a root d by
    1e-7 / d. At zero terminal SNR and eta = 1, d is 0 and mindone's value is NaN or means nothing.
    """
    a_t, a_prev = formula_alphas(config, steps, t)
    d_squared = (1 - a_prev) * (1 - eta**2 + eta**2 * a_t * (1 - a_prev) / (a_prev * (1 - a_t)))
    if a_prev == 1.0:
        return MINDONE_TOLERANCE
    return MINDONE_TOLERANCE + 1e-7 / d_squared**0.5 if d_squared > 0 else math.inf


def compare(parameters: dict[str, Any], steps: int, etas: tuple[float, ...], clipped: bool = False) -> None:
    theirs, ours = MindoneScheduler(**parameters), DDIMScheduler(**parameters)
    theirs.set_timesteps(steps)
    ours.set_timesteps(steps)
    assert ours.timesteps.asnumpy().tolist() == theirs.timesteps.asnumpy().tolist()
    for eta, t in itertools.product(etas, first_middle_last(theirs.timesteps.asnumpy())):
        actual = step_of(ours, t, eta, clipped)
        formula = formula_step(ours.config, steps, t, eta, clipped)
        mindone = step_of(theirs, t, eta, clipped)
        for name, mine, exact in zip(("x_prev", "x0"), actual, formula, strict=True):
            assert_close(mine, exact, FORMULA_TOLERANCE, (name, "formula", steps, t, eta))
        assert_close(actual[1], mindone[1], MINDONE_TOLERANCE, ("x0", "mindone", steps, t, eta))
        tolerance = mindone_tolerance(ours.config, steps, t, eta)
        if tolerance < math.inf:
            assert_close(actual[0], mindone[0], tolerance, ("x_prev", "mindone", steps, t, eta))


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("parameters", ONE_AT_A_TIME, ids=lambda parameters: str(parameters)[:60])
def test_every_parameter_gives_mindones_step(parameters: dict[str, Any], steps: int) -> None:
    """Whoever swaps the scheduler in a pipeline gets the same images: x_prev and x0, first, middle and last step."""
    config = DDIMScheduler(**parameters).config
    offset_leaves = config.steps_offset and steps == config.num_train_timesteps
    eps_without_signal = config.rescale_betas_zero_snr and config.prediction_type == "epsilon" and steps == 1000
    if offset_leaves or eps_without_signal:
        with pytest.raises(ScheduleError):
            DDIMScheduler(**parameters).set_timesteps(steps)
        return
    compare(parameters, steps, ETAS)


BOUNDS: list[dict[str, Any]] = [{"clip_sample": False}, {}, {"thresholding": True, "sample_max_value": 1.5}]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
def test_pairs_of_parameters_give_mindones_step(prediction_type: str, spacing: str, bound: dict[str, Any]) -> None:
    """Prediction type, spacing, bound of x0 and the source of eps meet in one formula."""
    parameters = {"prediction_type": prediction_type, "timestep_spacing": spacing, **bound}
    compare(parameters, 30, (0.5,), clipped=False)
    compare(parameters, 10, (0.5,), clipped=True)


@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("set_alpha_to_one", [True, False])
@pytest.mark.parametrize("zero_snr", [True, False])
def test_pairs_of_schedule_parameters_give_mindones_step(
    beta_schedule: str, set_alpha_to_one: bool, zero_snr: bool
) -> None:
    """The parameters that shape alpha_bar, with a v-prediction model as zero SNR needs it."""
    parameters = {
        "beta_schedule": beta_schedule,
        "set_alpha_to_one": set_alpha_to_one,
        "rescale_betas_zero_snr": zero_snr,
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
    }
    compare(parameters, 10, (0.0, 1.0))


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_zero_snr_with_full_noise_is_right_where_mindone_gives_nan(prediction_type: str) -> None:
    """At the first step mindone gives, for some step counts, NaN or the root of a rounding; ours is the formula."""
    parameters = {**ZERO_SNR, "prediction_type": prediction_type, "clip_sample": False}
    theirs, ours = MindoneScheduler(**parameters), DDIMScheduler(**parameters)
    wrong = 0
    for steps in range(1, 61):
        theirs.set_timesteps(steps)
        ours.set_timesteps(steps)
        actual, exact = step_of(ours, 999, 1.0, False)[0], formula_step(ours.config, steps, 999, 1.0, False)[0]
        assert_close(actual, exact, FORMULA_TOLERANCE, steps)
        wrong += not np.allclose(step_of(theirs, 999, 1.0, False)[0], exact, rtol=0, atol=1e-4)
    assert wrong > 0
