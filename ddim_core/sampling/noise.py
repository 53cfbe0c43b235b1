"""Each sample's own noise: NumPy Philox streams, keyed so that no order of drawing changes a value.

Philox (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405) maps a key and a counter to random bits. The key is
(seed, image index); the counter's upper words say what the numbers are for, so a step's noise can be drawn alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]

_INITIAL = 0
_STEP = 1


def initial_noise(seed: int, image_index: int, shape: Sequence[int]) -> Float32Array:
    """Return x_T ~ N(0, I), float32, of the sample's latent shape ``[C, H, W]``.

    Args:
        seed: The sample's seed, in ``[0, 2**64)``.
        image_index: Which image of its request, from 0; each has a stream of its own.
        shape: Shape of the latents without the batch axis.
    """
    return _stream(seed, image_index, _INITIAL, 0).standard_normal(tuple(shape), dtype=np.float32)


def step_noise(seed: int, image_index: int, step: int, shape: Sequence[int]) -> Float32Array:
    """Return the noise z ~ N(0, I), float32, that step number ``step`` (from 0) adds when eta is above 0."""
    return _stream(seed, image_index, _STEP, step).standard_normal(tuple(shape), dtype=np.float32)


def slerp(start: Float32Array, end: Float32Array, fraction: float) -> Float32Array:
    """Return the spherical interpolation of two arrays, Eq. (67) of DDIM (https://arxiv.org/abs/2010.02502).

    A point of the straight line between two draws of noise is too short to be one; on the arc all are as long. The ends
    are the two arrays to the bit.

    Args:
        start: What ``fraction`` 0 gives.
        end: What ``fraction`` 1 gives, of the same shape.
        fraction: Of the angle between them, in [0, 1].
    """
    if fraction in (0.0, 1.0):
        return end if fraction else start
    x, y = start.astype(np.float64), end.astype(np.float64)
    cosine = np.vdot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y))
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    arc: Float32Array = ((np.sin((1 - fraction) * angle) * x + np.sin(fraction * angle) * y) / np.sin(angle)).astype(
        np.float32
    )
    return arc


def _stream(seed: int, image_index: int, purpose: int, step: int) -> np.random.Generator:
    # NumPy counts in the lowest of the four 64-bit words: a draw never runs into the next step's words.
    counter = np.array([0, 0, step, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, image_index], dtype=np.uint64), counter=counter))
