"""One DDIM step of every lane as one compiled graph; latents and row pointers never leave the device.

Shapes: L lanes, C latent channels, h x w latent pixels, R rows of the coefficient bank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import mindspore as ms
import numpy as np
from mindspore import Tensor, mint, nn, ops

from ddim_core.sampling.bank import COLUMNS, IDLE_ROW

(
    _NEXT_ROW,
    _TIMESTEP,
    _X0_FROM_X,
    _X0_FROM_OUT,
    _EPS_FROM_X,
    _EPS_FROM_OUT,
    _PREV_FROM_X0,
    _PREV_FROM_EPS,
    _SIGMA,
    _X0_LIMIT,
    _THRESHOLD_QUANTILE,
    _THRESHOLD_LIMIT,
) = range(len(COLUMNS))

Conditions: TypeAlias = tuple[Tensor, ...]
"""What a denoiser is given beside x and the timestep; how many, and of which shapes and dtypes, its model says."""


# After its x_t, a lane's numbers are: the row of the bank that it is at, the lanes of its sample's conditional and
# unconditional output, guidance_scale, guidance_rescale. float32 counts to 2**24, so rows and lanes are exact.
_NUMBERS = 5
_ROW, _CONDITIONAL, _UNCONDITIONAL, _SCALE, _RESCALE = range(-_NUMBERS, 0)


@dataclass(frozen=True, slots=True)
class Lanes:
    """What the device holds for the samples in its lanes; a step returns a new value and changes none.

    A sample with guidance holds two lanes with the same numbers. Both know which lane has the conditional and which the
    unconditional output, so both compute the same update and stay equal to the bit. All numbers are one tensor, because
    MindSpore 2.7.1 runs a graph that returns several in threads of its own, at twice the CPU time or more.
    """

    state: Tensor
    """x_t and the ``_NUMBERS`` of each lane, float32 [L, C * h * w + 5]; ``IDLE_ROW`` is the row of a lane at rest."""
    conditions: Conditions
    """The condition of every lane, each [L, ...]."""
    latent_shape: tuple[int, ...]
    """[C, h, w]."""

    def x(self, lane: int) -> Tensor:
        """Return x_t of a lane, [C, h, w]."""
        return self.state[lane, :-_NUMBERS].reshape(self.latent_shape)


def idle_lanes(num_lanes: int, latent_shape: tuple[int, ...], like: Conditions) -> Lanes:
    """Return lanes that are all at rest, with room for conditions such as those of one sample."""
    numbers = [_numbers((lane,), IDLE_ROW, 0.0, 0.0) for lane in range(num_lanes)]
    at_rest = np.zeros((num_lanes, math.prod(latent_shape)), np.float32)
    return Lanes(
        state=Tensor(np.concatenate([at_rest, np.stack(numbers)], axis=1)),
        conditions=tuple(ops.zeros((num_lanes, *condition.shape), condition.dtype) for condition in like),
        latent_shape=latent_shape,
    )


def _numbers(lanes: Sequence[int], row: int, guidance_scale: float, guidance_rescale: float) -> Any:
    return np.array([row, lanes[0], lanes[-1], guidance_scale, guidance_rescale], np.float32)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What is written into the lanes of a sample when it is admitted."""

    lanes: tuple[int, ...]
    """Its conditional lane and, with guidance, its unconditional one."""
    x: np.ndarray[Any, np.dtype[np.float32]]
    """x_T, [C, h, w]."""
    first_row: int
    conditions: Conditions
    """As in ``Lanes``, without the axis of lanes."""
    negative_conditions: Conditions
    """For its unconditional lane; ignored without guidance."""
    guidance_scale: float
    guidance_rescale: float


def admitted(lanes: Lanes, new: Newcomer) -> Lanes:
    """Return the lanes with a new sample in its own; sends its latents and a few numbers to the device."""
    own = Tensor(np.array([new.lanes[0], new.lanes[-1]], np.int32))
    numbers = _numbers(new.lanes, new.first_row, new.guidance_scale, new.guidance_rescale)
    state = Tensor(np.concatenate([new.x.ravel(), numbers]))
    conditions = zip(lanes.conditions, new.conditions, new.negative_conditions, strict=True)
    return replace(
        lanes,
        state=_write(lanes.state, own, state, state),
        conditions=tuple(_write(now, own, positive, negative) for now, positive, negative in conditions),
    )


@ms.jit(jit_level="O0")
def _write(now: Tensor, own: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Return ``now`` [L, ...] with ``first`` in lane ``own[0]`` and ``last`` in ``own[1]``, if that is another."""
    lane = ops.arange(now.shape[0]).reshape(-1, *[1] * (now.ndim - 1))
    return ops.where(lane == own[0], first, ops.where(lane == own[1], last, now))


class DenoisingStep(nn.Cell):
    """One step of the reverse process for every lane: denoiser, guidance, x0, x_prev, next row."""

    def __init__(self, denoiser: nn.Cell, *, thresholding: bool = False) -> None:
        """Make the step of a denoiser.

        Args:
            denoiser: A cell ``(x [L, C, h, w], timestep [L], *conditions) -> [L, C, h, w]``.
            thresholding: Build the graph with dynamic thresholding, which sorts |x0| of every lane; samples without it
                come out the same to the bit.
        """
        super().__init__()
        self.denoiser = denoiser
        self.thresholding = thresholding

    def advance(self, lanes: Lanes, bank: Tensor, z: Tensor) -> Lanes:
        """Return the lanes one step on; what the arguments hold stays on the device.

        Args:
            lanes: Where the samples are.
            bank: The coefficient rows, float32 [R, len(COLUMNS)].
            z: Fresh noise, float32 [L, C, h, w]; only lanes at a row with sigma > 0 use it.
        """
        return replace(lanes, state=self(lanes.state, bank, z, *lanes.conditions))

    @ms.jit(jit_level="O0")
    def construct(self, state: Tensor, bank: Tensor, z: Tensor, *conditions: Tensor) -> Tensor:  # noqa: D102
        x = state[:, :-_NUMBERS].reshape(z.shape)
        at = mint.index_select(bank, 0, state[:, _ROW].astype(ms.int32))
        out = _guide(self.denoiser(x, at[:, _TIMESTEP], *conditions).astype(ms.float32), state)
        # Predicted x_0 and the direction pointing to x_t, Eq. (12) of DDIM (https://arxiv.org/abs/2010.02502).
        x0 = _column(at, _X0_FROM_X) * x + _column(at, _X0_FROM_OUT) * out
        eps = _column(at, _EPS_FROM_X) * x + _column(at, _EPS_FROM_OUT) * out
        x0 = _clip(x0, _column(at, _X0_LIMIT))
        if self.thresholding:
            x0 = _threshold(x0, at[:, _THRESHOLD_QUANTILE], _column(at, _THRESHOLD_LIMIT))
        x_prev = _column(at, _PREV_FROM_X0) * x0 + _column(at, _PREV_FROM_EPS) * eps + _column(at, _SIGMA) * z
        next_row = at[:, _NEXT_ROW : _NEXT_ROW + 1]
        return ops.concat([x_prev.reshape(x.shape[0], -1), next_row, state[:, _CONDITIONAL:]], 1)


def _column(rows: Tensor, index: int) -> Tensor:
    return rows[:, index].reshape(-1, 1, 1, 1)


def _guide(out: Tensor, state: Tensor) -> Tensor:
    """Classifier-free guidance, rescaled as in Eq. (15), (16) of Lin et al. 2024 (https://arxiv.org/abs/2305.08891)."""
    scale, phi = _column(state, _SCALE), _column(state, _RESCALE)
    sources = state[:, _CONDITIONAL:_SCALE].astype(ms.int32)
    conditional, unconditional = mint.index_select(out, 0, sources[:, 0]), mint.index_select(out, 0, sources[:, 1])
    guided = unconditional + scale * (conditional - unconditional)
    rescaled = guided * (_std(conditional) / _std(guided))
    guided = ops.where(phi > 0, phi * rescaled + (1 - phi) * guided, guided)
    return ops.where(_column(sources, 0) == _column(sources, 1), conditional, guided)


def _std(x: Tensor) -> Tensor:
    """Standard deviation of each sample, [L, 1, 1, 1]."""
    deviation = x - mint.mean(x, (1, 2, 3), True)
    return ops.sqrt(mint.mean(ops.square(deviation), (1, 2, 3), True))


def _clip(x0: Tensor, limit: Tensor) -> Tensor:
    # On the CPU, Maximum and Minimum of two shapes take five times as long as of one.
    limit = limit + ops.zeros_like(x0)
    return ops.minimum(ops.maximum(x0, -limit), limit)


def _threshold(x0: Tensor, quantile: Tensor, largest: Tensor) -> Tensor:
    """Dynamic thresholding of lanes with a quantile above 0, section 2.3 of Imagen (https://arxiv.org/abs/2205.11487)."""
    ascending = mint.sort(ops.abs(x0.reshape(x0.shape[0], -1)))[0]
    place = (quantile * (ascending.shape[1] - 1)).reshape(-1, 1)
    below = ops.floor(place)
    low = ops.gather_elements(ascending, 1, below.astype(ms.int32))
    high = ops.gather_elements(ascending, 1, ops.ceil(place).astype(ms.int32))
    s = (low + (high - low) * (place - below)).reshape(-1, 1, 1, 1)
    s = ops.minimum(ops.maximum(s, 1.0), largest)
    return ops.where((quantile > 0).reshape(-1, 1, 1, 1), _clip(x0, s) / s, x0)
