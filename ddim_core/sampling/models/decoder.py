"""Latents to pictures of 8 bits, in batches of one size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops

from ddim_core.sampling.models.model import Decoding


class VaeDecoder(nn.Cell):
    """The VAE's decoder and the conversion to 8 bits, as one compiled graph."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae
        self.scale = 1.0 / vae.config.scaling_factor
        self.dtype = vae.dtype

    @ms.jit(jit_level="O0")
    def construct(self, latents: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        decoded = self.vae.decode((latents * self.scale).astype(self.dtype), return_dict=False)[0].astype(ms.float32)
        # The decoder's norms can turn infinite latents into a finite picture of nothing.
        finite = ops.logical_and(ops.isfinite(latents).all((1, 2, 3)), ops.isfinite(decoded).all((1, 2, 3)))
        unit = ops.clamp(decoded / 2 + 0.5, 0.0, 1.0)
        return ops.round(unit * 255.0).astype(ms.uint8).permute(0, 2, 3, 1), finite


def decode(decoder: nn.Cell, latents: Sequence[Tensor], batch: int) -> Decoding:
    """Ask for the pictures of latents [C, h, w], at most ``batch`` of them.

    A short batch is filled up with its last latents, so that the decoder always sees one shape.
    """
    padded = [*latents, *[latents[-1]] * (batch - len(latents))]
    pixels, finite = decoder(ops.stack(padded))
    return Decoding(pixels, finite, len(latents))
