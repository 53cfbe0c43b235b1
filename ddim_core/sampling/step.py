"""One DDIM step of every lane as one compiled graph; latents and row pointers never leave the device.

Shapes: L lanes, C latent channels, h x w latent pixels, R rows of the coefficient bank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

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


@dataclass(frozen=True, slots=True)
class Lanes:
    """What the device holds for the samples in its lanes; a step returns a new value and changes none.

    A sample with guidance holds two lanes with the same ``x``. Both know which lane has the conditional and which the
    unconditional output, so both compute the same update and stay equal to the bit.
    """

    x: Tensor
    """x_t, float32 [L, C, h, w]."""
    row: Tensor
    """Row of the bank that each lane is at, int32 [L]; ``IDLE_ROW`` for a lane at rest."""
    outputs: Tensor
    """Columns: lane of the sample's conditional output and lane of its unconditional one, which for a sample without
    guidance is the same; int32 [L, 2]."""
    guidance: Tensor
    """Columns guidance_scale and guidance_rescale, float32 [L, 2]."""
    conditions: Conditions
    """The condition of every lane, each [L, ...]."""


def idle_lanes(num_lanes: int, latent_shape: tuple[int, ...], like: Conditions) -> Lanes:
    """Return lanes that are all at rest, with room for conditions such as those of one sample."""
    own = np.arange(num_lanes, dtype=np.int32)
    return Lanes(
        x=Tensor(np.zeros((num_lanes, *latent_shape), np.float32)),
        row=Tensor(np.full(num_lanes, IDLE_ROW, np.int32)),
        outputs=Tensor(np.stack([own, own], axis=1)),
        guidance=Tensor(np.zeros((num_lanes, 2), np.float32)),
        conditions=tuple(ops.zeros((num_lanes, *condition.shape), condition.dtype) for condition in like),
    )


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


class Admission(nn.Cell):
    """Writes one sample into its lanes, as one compiled graph that leaves the other lanes as they are."""

    def admit(self, lanes: Lanes, new: Newcomer) -> Lanes:
        """Return the lanes with a new sample in its own; sends its latents and a few numbers to the device."""
        own = Tensor(np.array([new.lanes[0], new.lanes[-1]], np.int32))
        row = Tensor(np.array(new.first_row, np.int32))
        guidance = Tensor(np.array([new.guidance_scale, new.guidance_rescale], np.float32))
        now = (lanes.x, lanes.row, lanes.outputs, lanes.guidance)
        all_conditions = (*lanes.conditions, *new.conditions, *new.negative_conditions)
        written = self(*now, own, Tensor(new.x), row, guidance, *all_conditions)
        x, row, outputs, guidance = written[:4]
        return Lanes(x, row, outputs, guidance, tuple(written[4:]))

    # A compiled graph takes tensors one by one: inside a tuple they would be constants, compiled anew for every value.
    @ms.jit(jit_level="O0")
    def construct(  # noqa: PLR0913, PLR0917
        self,
        x: Tensor,
        row: Tensor,
        outputs: Tensor,
        guidance: Tensor,
        own: Tensor,
        new_x: Tensor,
        new_row: Tensor,
        new_guidance: Tensor,
        *conditions: Tensor,
    ) -> tuple[Tensor, ...]:
        """``conditions``: those of the lanes, then the new sample's, then its negative ones, as many of each."""
        lane = ops.arange(row.shape[0])
        is_first = lane == own[0]
        is_own = ops.logical_or(is_first, lane == own[1])
        written: tuple[Tensor, ...] = (
            _where(is_own, new_x, x),
            _where(is_own, new_row, row),
            _where(is_own, own, outputs),
            _where(is_own, new_guidance, guidance),
        )
        count = len(conditions) // 3
        for i in range(count):
            condition = _where(is_own, conditions[2 * count + i], conditions[i])
            written += (_where(is_first, conditions[count + i], condition),)
        return written


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
        x, row = self(lanes.x, lanes.row, lanes.outputs, lanes.guidance, bank, z, *lanes.conditions)
        return replace(lanes, x=x, row=row)

    @ms.jit(jit_level="O0")
    def construct(  # noqa: D102
        self,
        x: Tensor,
        row: Tensor,
        outputs: Tensor,
        guidance: Tensor,
        bank: Tensor,
        z: Tensor,
        *conditions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        at = ops.gather(bank, row, 0)
        out = _guide(self.denoiser(x, at[:, _TIMESTEP], *conditions).astype(ms.float32), outputs, guidance)
        # Predicted x_0 and the direction pointing to x_t, Eq. (12) of DDIM (https://arxiv.org/abs/2010.02502).
        x0 = _column(at, _X0_FROM_X) * x + _column(at, _X0_FROM_OUT) * out
        eps = _column(at, _EPS_FROM_X) * x + _column(at, _EPS_FROM_OUT) * out
        x0 = _clip(x0, _column(at, _X0_LIMIT))
        if self.thresholding:
            x0 = _threshold(x0, at[:, _THRESHOLD_QUANTILE], _column(at, _THRESHOLD_LIMIT))
        x_prev = _column(at, _PREV_FROM_X0) * x0 + _column(at, _PREV_FROM_EPS) * eps + _column(at, _SIGMA) * z
        return x_prev, at[:, _NEXT_ROW].astype(ms.int32)


def _where(lanes: Tensor, new: Tensor, now: Tensor) -> Tensor:
    """Return ``now`` [L, ...] with ``new`` [...] in the lanes that are true, [L]."""
    return ops.where(lanes.reshape(-1, *[1] * (now.ndim - 1)), new, now)


def _column(rows: Tensor, index: int) -> Tensor:
    return rows[:, index].reshape(-1, 1, 1, 1)


def _guide(out: Tensor, outputs: Tensor, guidance: Tensor) -> Tensor:
    """Classifier-free guidance, rescaled as in Eq. (15), (16) of Lin et al. 2024 (https://arxiv.org/abs/2305.08891)."""
    scale, phi = _column(guidance, 0), _column(guidance, 1)
    conditional, unconditional = ops.gather(out, outputs[:, 0], 0), ops.gather(out, outputs[:, 1], 0)
    guided = unconditional + scale * (conditional - unconditional)
    rescaled = guided * (_std(conditional) / _std(guided))
    guided = ops.where(phi > 0, phi * rescaled + (1 - phi) * guided, guided)
    return ops.where(_column(outputs, 0) == _column(outputs, 1), conditional, guided)


def _std(x: Tensor) -> Tensor:
    """Standard deviation of each sample, [L, 1, 1, 1]."""
    return ops.sqrt(ops.square(x - x.mean((1, 2, 3), keep_dims=True)).mean((1, 2, 3), keep_dims=True))


def _clip(x0: Tensor, limit: Tensor) -> Tensor:
    # On the CPU, Maximum and Minimum of two shapes take five times as long as of one.
    limit = limit + ops.zeros_like(x0)
    return ops.minimum(ops.maximum(x0, -limit), limit)


def _threshold(x0: Tensor, quantile: Tensor, largest: Tensor) -> Tensor:
    """Dynamic thresholding of lanes with a quantile above 0, section 2.3 of Imagen (https://arxiv.org/abs/2205.11487)."""
    ascending = ops.sort(ops.abs(x0.reshape(x0.shape[0], -1)))[0]
    place = (quantile * (ascending.shape[1] - 1)).reshape(-1, 1)
    below = ops.floor(place)
    low = ops.gather_elements(ascending, 1, below.astype(ms.int32))
    high = ops.gather_elements(ascending, 1, ops.ceil(place).astype(ms.int32))
    s = (low + (high - low) * (place - below)).reshape(-1, 1, 1, 1)
    s = ops.minimum(ops.maximum(s, 1.0), largest)
    return ops.where((quantile > 0).reshape(-1, 1, 1, 1), _clip(x0, s) / s, x0)
