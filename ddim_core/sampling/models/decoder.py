"""Latents to pictures of 8 bits, in batches of one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ddim_core.sampling.models.model import Decoding


class VaeDecoder(nn.Cell):
    """The VAE's decoder and the conversion to 8 bits, as one compiled graph."""

    def __init__(self, vae: Any, *, standardised: bool = False) -> None:
        """Take a VAE; ``standardised``: heed ``latents_mean`` and ``latents_std`` of its configuration, if it has them.

        diffusers heeds them for Stable Diffusion XL, and not for the others.
        """
        super().__init__()
        self.vae = vae
        self.dtype = vae.dtype
        mean, std = vae.config.latents_mean, vae.config.latents_std
        given = standardised and mean is not None and std is not None
        self.mean, self.std = (_channels(mean), _channels(std)) if given else (_channels([0.0]), _channels([1.0]))
        self.scale = 1.0 / vae.config.scaling_factor

    @ms.jit(jit_level="O0")
    def construct(self, latents: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        scaled = latents * (self.std * self.scale) + self.mean
        decoded = self.vae.decode(scaled.astype(self.dtype), return_dict=False)[0].astype(ms.float32)
        pixels, finite = _pixels(decoded)
        # The decoder's norms can turn infinite latents into a finite picture of nothing.
        return pixels, ops.logical_and(ops.isfinite(latents).all((1, 2, 3)), finite)


class PixelDecoder(nn.Cell):
    """The conversion to 8 bits of a model that has no VAE; one channel is grey."""

    @ms.jit(jit_level="O0")
    def construct(self, x: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return _pixels(ops.tile(x, (1, 3 // x.shape[1], 1, 1)))


def _channels(values: Sequence[float]) -> Tensor:
    return Tensor(np.array(values, np.float32).reshape(1, -1, 1, 1))


def _pixels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return [B, 3, h, w] from [-1, 1] as uint8 [B, h, w, 3], and whether all of each is a number."""
    finite = ops.isfinite(x).all((1, 2, 3))
    unit = ops.clamp(x / 2 + 0.5, 0.0, 1.0)
    return ops.round(unit * 255.0).astype(ms.uint8).permute(0, 2, 3, 1), finite


def decode(decoder: nn.Cell, latents: Sequence[Tensor], batch: int) -> Decoding:
    """Ask for the pictures of latents [C, h, w], at most ``batch`` of them.

    A short batch is filled up with its last latents, so that the decoder always sees one shape.
    """
    padded = [*latents, *[latents[-1]] * (batch - len(latents))]
    pixels, finite = decoder(ops.stack(padded))
    return Decoding(pixels, finite, len(latents))
