"""The tables against the papers' equations, term by term, in 50-digit arithmetic.

From the betas on nothing here uses our formulas: alpha_bar, the zero-SNR rescale, Eq. (4), (12) and (16) are written
out from the papers in ``decimal``, so that neither rounding nor a shared mistake can hide.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Context, Decimal, localcontext
from functools import lru_cache

import numpy as np
import pytest

from ddim_core.schedule import ScheduleConfig, StepTable, alpha_bar, betas, step_table

DIGITS = Context(prec=50)
# float64 rounds to 1.1e-16 a thousand times in alpha_bar, and 1 - alpha_bar loses four more digits at timestep 0.
TOLERANCE = 1e-12

SCHEDULES = {
    "linear": ScheduleConfig(),
    "scaled_linear": ScheduleConfig(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    "cosine": ScheduleConfig(beta_schedule="squaredcos_cap_v2"),
    "keeps_first_alpha": ScheduleConfig(set_alpha_to_one=False),
    "zero_snr": ScheduleConfig(rescale_betas_zero_snr=True),
}


@lru_cache
def paper_alpha_bar(config: ScheduleConfig) -> list[Decimal]:
    """The DDIM paper's alpha_t, Eq. (3): the product of 1 - beta, with Lin et al.'s Algorithm 1 where asked for."""
    given = betas(replace(config, rescale_betas_zero_snr=False))
    with localcontext(DIGITS):
        product, products = Decimal(1), []
        for beta in given:
            product *= 1 - Decimal(float(beta))
            products.append(product)
        return zero_terminal_snr(products) if config.rescale_betas_zero_snr else products


def zero_terminal_snr(products: list[Decimal]) -> list[Decimal]:
    """Lin et al. 2024, Algorithm 1, from the product on."""
    roots = [product.sqrt() for product in products]
    first, last = roots[0], roots[-1]
    shifted = [root - last for root in roots]  # "Shift so last timestep is zero"
    scaled = [root * first / (first - last) for root in shifted]  # "Scale so first timestep is back to old value"
    return [root * root for root in scaled]


def paper_step(
    x: Decimal, eps: Decimal, z: Decimal, a_t: Decimal, a_prev: Decimal, eta: Decimal
) -> tuple[Decimal, Decimal]:
    """Eq. (12) with sigma from Eq. (16); return x_(t-1) and the "predicted x_0"."""
    sigma = eta * ((1 - a_prev) / (1 - a_t)).sqrt() * (1 - a_t / a_prev).sqrt()
    predicted_x0 = (x - (1 - a_t).sqrt() * eps) / a_t.sqrt()
    direction_pointing_to_x_t = (1 - a_prev - sigma**2).sqrt() * eps
    random_noise = sigma * z
    return a_prev.sqrt() * predicted_x0 + direction_pointing_to_x_t + random_noise, predicted_x0


def alphas_of(config: ScheduleConfig, table: StepTable, steps: int) -> list[tuple[Decimal, Decimal]]:
    """(alpha_t, alpha_(t-1)) of each step, by the pairing rule written out here again."""
    curve = paper_alpha_bar(config)
    final = Decimal(1) if config.set_alpha_to_one else curve[0]
    visited = table.timesteps.tolist()
    if config.timestep_pairs == "visited":
        leads_to = [*visited[1:], -1]
    else:
        leads_to = [t - config.num_train_timesteps // steps for t in visited]
    return [(curve[t], curve[s] if s >= 0 else final) for t, s in zip(visited, leads_to, strict=True)]


def table_step(table: StepTable, i: int, x: float, out: float, z: float) -> tuple[float, float]:
    x0 = table.x0_from_x[i] * x + table.x0_from_out[i] * out
    eps = table.eps_from_x[i] * x + table.eps_from_out[i] * out
    return float(table.prev_from_x0[i] * x0 + table.prev_from_eps[i] * eps + table.sigma[i] * z), float(x0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_alpha_bar_is_the_product_of_the_paper(name: str) -> None:
    """Eq. (3), and Algorithm 1 of Lin et al. for zero terminal SNR."""
    config = SCHEDULES[name]
    assert alpha_bar(config) == pytest.approx([float(a) for a in paper_alpha_bar(config)], rel=TOLERANCE, abs=1e-30)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10, 50, 999])
@pytest.mark.parametrize("pairs", ["diffusers", "visited"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_step_tables_are_equations_12_and_16(name: str, spacing: str, pairs: str, steps: int, eta: float) -> None:
    """Every term of every coefficient of every step, whatever schedule, spacing, pairing, step count and eta."""
    config = SCHEDULES[name].replace_with(
        {"timestep_spacing": spacing, "timestep_pairs": pairs, "prediction_type": "v_prediction"}
    )
    table = step_table(config, steps, eta)
    with localcontext(DIGITS):
        share = Decimal(eta)
        expected = [
            (
                a_prev.sqrt(),
                (share * ((1 - a_prev) / (1 - a_t)).sqrt() * (1 - a_t / a_prev).sqrt()),
                max(1 - a_prev - share**2 * (1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev), Decimal(0)).sqrt(),
                a_t.sqrt(),
                (1 - a_t).sqrt(),
            )
            for a_t, a_prev in alphas_of(config, table, steps)
        ]
    actual = (table.prev_from_x0, table.sigma, table.prev_from_eps, table.x0_from_x, table.eps_from_x)
    np.testing.assert_allclose(np.stack(actual, axis=1), np.array(expected, dtype=np.float64), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine", "keeps_first_alpha"])
def test_a_step_moves_a_sample_as_equation_12_does(name: str, eta: float, prediction_type: str) -> None:
    """One scalar sample through each step: x_prev and x0 from x, the model output and z."""
    config = SCHEDULES[name].replace_with({"prediction_type": prediction_type})
    table = step_table(config, 50, eta)
    true_x0, eps, z = Decimal("0.625"), Decimal("-1.375"), Decimal("0.8125")
    for i, (a_t, a_prev) in enumerate(alphas_of(config, table, 50)):
        with localcontext(DIGITS):
            x = a_t.sqrt() * true_x0 + (1 - a_t).sqrt() * eps  # Eq. (4)
            velocity = a_t.sqrt() * eps - (1 - a_t).sqrt() * true_x0  # Salimans & Ho 2022, appendix D
            expected = [float(value) for value in paper_step(x, eps, z, a_t, a_prev, Decimal(eta))]
        out = {"epsilon": eps, "sample": true_x0, "v_prediction": velocity}[prediction_type]
        actual = table_step(table, i, float(x), float(out), float(z))
        # x and the output are rounded to float64 before the table sees them; x0 from eps then divides that rounding by
        # sqrt(alpha_bar), and eps from x0 by sqrt(1 - alpha_bar).
        amplified = 1 + 1 / float(a_t.sqrt()) + 1 / float((1 - a_t).sqrt())
        assert actual == pytest.approx(expected, abs=2e-14 * amplified, rel=0)


def authors_ddpm_step(x: Decimal, x0: Decimal, z: Decimal, a_t: Decimal, a_prev: Decimal) -> tuple[Decimal, Decimal]:
    """The rule of the authors' program for the rows sigma-hat of Table 1; return the mean and x_(t-1).

    The mean is that of q(x_(t-1) | x_t, x_0), Ho et al. 2020, Eq. (7), with the beta of the longer step; its variance
    is that beta; and what leads to x_0 itself adds no noise.
    """
    beta = 1 - a_t / a_prev
    mean = (a_prev.sqrt() * beta * x0 + (1 - beta).sqrt() * (1 - a_prev) * x) / (1 - a_t)
    return mean, mean + (beta.sqrt() * z if a_prev < 1 else 0)


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace", "quad"])
@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine", "keeps_first_alpha"])
def test_the_larger_variance_is_the_authors(name: str, spacing: str, prediction_type: str) -> None:
    """Sigma-hat of Table 1 about the mean of eta = 1, which is that of DDPM, step by step."""
    changes = {"prediction_type": prediction_type, "timestep_spacing": spacing, "timestep_pairs": "visited"}
    config = SCHEDULES[name].replace_with({**changes, "variance": "larger"})
    table, with_eta = step_table(config, 50, 1.0), step_table(config.replace_with({"variance": "ddim"}), 50, 1.0)
    true_x0, eps, z = Decimal("0.625"), Decimal("-1.375"), Decimal("0.8125")
    for i, (a_t, a_prev) in enumerate(alphas_of(config, table, 50)):
        with localcontext(DIGITS):
            x = a_t.sqrt() * true_x0 + (1 - a_t).sqrt() * eps  # Eq. (4)
            velocity = a_t.sqrt() * eps - (1 - a_t).sqrt() * true_x0
            mean, x_prev = authors_ddpm_step(x, true_x0, z, a_t, a_prev)
        out = float({"epsilon": eps, "sample": true_x0, "v_prediction": velocity}[prediction_type])
        near = {"abs": 2e-14 * (1 + 1 / float(a_t.sqrt()) + 1 / float((1 - a_t).sqrt())), "rel": 0}
        assert table_step(table, i, float(x), out, 0.0)[0] == pytest.approx(float(mean), **near)
        assert table_step(with_eta, i, float(x), out, 0.0)[0] == pytest.approx(float(mean), **near)
        assert table_step(table, i, float(x), out, float(z))[0] == pytest.approx(float(x_prev), **near)
    assert (table.sigma[:-1] > with_eta.sigma[:-1]).all()


def test_no_schedule_of_the_grid_is_trivial() -> None:
    """The grid compares steps that do something: sigma and both signal and noise are far from 0 in the middle."""
    for config in SCHEDULES.values():
        table = step_table(config, 10, 1.0)
        assert 0.1 < table.sigma[5] < 0.9
        assert 0.01 < table.alpha_bar[5] < 0.99
