"""The kernels around the denoiser: what goes into it, and the update of every lane, against its formulas in float64."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ddim_core.sampling.bank import COLUMNS
from tests.unit.sampling.fused import native
from tests.unit.sampling.fused.formulas import REST

Array = np.ndarray[Any, Any]

LANES, SHAPE = 6, (4, 5, 3)
SIZE = int(np.prod(SHAPE))
# Float32 sums of a few terms, and a quotient of two deviations.
TOLERANCE = 2e-5


@pytest.fixture(params=native.SETS, name="library")
def _library(request: pytest.FixtureRequest) -> Iterator[ctypes.CDLL]:
    yield native.library_or_skip(request.param)


def bank_of(rows: int) -> Array:
    bank = np.random.default_rng(1).uniform(0.1, 1.0, (rows, len(COLUMNS))).astype(np.float32)
    bank[:, COLUMNS.index("next_row")] = (np.arange(rows) + 1) % rows
    bank[:, COLUMNS.index("timestep")] = np.arange(rows) * 10
    bank[:, COLUMNS.index("threshold_quantile")] = 0
    bank[:, COLUMNS.index("threshold_limit")] = 1.5
    return bank


def state_of(numbers: list[list[float]]) -> Array:
    x = np.random.default_rng(2).standard_normal((len(numbers), SIZE))
    return np.concatenate([x, np.array(numbers)], 1).astype(np.float32)


NUMBERS = [
    [1, 0, 1, 4.0, 0.0],  # guided by lanes 0 and 1
    [1, 0, 1, 4.0, 0.0],
    [0, 2, 2, 0.0, 0.0],  # at rest
    [2, 3, 3, 1.0, 0.0],  # without guidance
    [3, 4, 5, 7.0, 0.7],  # rescaled
    [3, 4, 5, 7.0, 0.7],
]


def formula(out: Array, thresholding: bool, state: Array, bank: Array, z: Array) -> Array:
    """As in step.py, one lane after another."""
    result = state.astype(np.float64)
    for lane, (x, numbers) in enumerate(zip(state[:, :SIZE].astype(float), state[:, SIZE:], strict=True)):
        at = dict(zip(COLUMNS, bank[int(numbers[0])].astype(float), strict=True))
        if numbers[0] == 0:
            continue
        c, u = (out[int(source)].ravel().astype(float) for source in numbers[1:3])
        scale, phi = map(float, numbers[3:])
        guided = c
        if numbers[1] != numbers[2]:
            guided = u + scale * (c - u)
            guided = phi * guided * c.std() / guided.std() + (1 - phi) * guided
        x0 = np.clip(at["x0_from_x"] * x + at["x0_from_out"] * guided, -at["x0_limit"], at["x0_limit"])
        eps = at["eps_from_x"] * x + at["eps_from_out"] * guided
        if thresholding and at["threshold_quantile"] > 0:
            s = min(max(np.quantile(np.abs(x0), at["threshold_quantile"]), 1.0), at["threshold_limit"])
            x0 = np.clip(x0, -s, s) / s
        result[lane, :SIZE] = at["prev_from_x0"] * x0 + at["prev_from_eps"] * eps + at["sigma"] * z[lane].ravel()
        result[lane, SIZE] = at["next_row"]
    return result


@pytest.mark.parametrize("quantile", [0.0, 0.001, 0.5, 0.77, 0.995, 1.0])
def test_the_update_is_its_formula(library: ctypes.CDLL, quantile: float) -> None:
    """Guidance, its rescaling, clipping, dynamic thresholding and noise; a lane at rest keeps its state."""
    random = np.random.default_rng(3)
    bank, state = bank_of(4), state_of(NUMBERS)
    bank[1:, COLUMNS.index("threshold_quantile")] = quantile
    bank[:, COLUMNS.index("x0_limit")] = [np.finfo(np.float32).max, 3.4e38, 0.8, 5.0]
    out, z = (random.standard_normal((LANES, *SHAPE)).astype(np.float32) * 2 for _ in range(2))
    for thresholding in (0, 1):
        y = native.call(library, "update", [out, [thresholding], state, bank, z], state.shape)
        assert np.abs(y - formula(out, bool(thresholding), state, bank, z)).max() < TOLERANCE
        assert y[2].tobytes() == state[2].tobytes()
        assert y[0].tobytes()[4 * SIZE :] == y[1].tobytes()[4 * SIZE :]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_in_its_lane(library: ctypes.CDLL, bad: float) -> None:
    """Also where values are ordered: NaN has a place among them."""
    bank, state = bank_of(4), state_of(NUMBERS)
    bank[1:, COLUMNS.index("threshold_quantile")] = 0.9
    bank[:, COLUMNS.index("x0_limit")] = 3.4e38
    out = np.random.default_rng(4).standard_normal((LANES, *SHAPE)).astype(np.float32)
    clean = native.call(library, "update", [out, [1], state, bank, out], state.shape)
    broken = out.copy()
    broken[3].flat[7] = bad
    y = native.call(library, "update", [broken, [1], state, bank, out], state.shape)
    others = [lane for lane in range(LANES) if lane != 3]
    assert y[others].tobytes() == clean[others].tobytes()
    broken[3] = np.nan
    y = native.call(library, "update", [broken, [1], state, bank, out], state.shape)
    assert np.isnan(y[3, :SIZE]).all()


def test_lanes_at_rest_are_marked_where_that_is_asked_for(library: ctypes.CDLL) -> None:
    """Latents without their numbers, and each lane's timestep."""
    bank, state = bank_of(4), state_of(NUMBERS)
    like = np.zeros((LANES, *SHAPE), np.float32)
    for marks in (0, 1):
        x = native.call(library, "lane_x", [state, [marks], like], like.shape)
        t = native.call(library, "lane_t", [state, [marks], bank], (LANES,))
        expected_x = state[:, :SIZE].reshape(like.shape).copy()
        expected_t = np.array([10, 10, 0, 20, 30, 30], np.float32)
        if marks:
            expected_x[2].flat[0] = expected_t[2] = REST
        assert (x.tobytes(), t.tobytes()) == (expected_x.tobytes(), expected_t.tobytes())


def test_instruction_sets_give_equal_bits() -> None:
    """As for the denoiser's kernels."""
    libraries = [native.library_or_skip(name) for name in native.SETS]
    bank, state = bank_of(4), state_of(NUMBERS)
    bank[1:, COLUMNS.index("threshold_quantile")] = 0.9
    out = np.random.default_rng(5).standard_normal((LANES, *SHAPE)).astype(np.float32)
    results = [native.call(each, "update", [out, [1], state, bank, out], state.shape).tobytes() for each in libraries]
    assert len(set(results)) == 1
