"""Pictures to latents: where a sample that inverts one begins."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ddim_core.errors import NotFiniteError
from ddim_core.sampling.noise import Float32Array


class VaeEncoder(nn.Cell):
    """The VAE's encoder, from 8 bits to the mean of the latents that it takes for likely, as one compiled graph."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae
        self.dtype = vae.dtype
        self.scale = vae.config.scaling_factor
        self.channels = vae.config.latent_channels

    @ms.jit(jit_level="O0")
    def construct(self, pixels: Tensor) -> Tensor:  # noqa: D102
        x = pixels.permute(0, 3, 1, 2).astype(ms.float32) / 127.5 - 1.0
        moments = self.vae.encode(x.astype(self.dtype), return_dict=False)[0]
        return moments[:, : self.channels].astype(ms.float32) * self.scale


def encode(encoder: nn.Cell, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Float32Array:
    """Return the latents [C, h, w] of a picture, RGB [height, width, 3]; waits for the device.

    One by one: the batch is the same whoever else is encoded, and the many steps that follow take far longer.

    Raises:
        NotFiniteError: They are not made of numbers.
    """
    latents: Float32Array = encoder(Tensor(pixels[None])).asnumpy()[0]
    if not np.isfinite(latents).all():
        raise NotFiniteError("the latents of the picture must be made of numbers, got NaN or infinity")
    return latents
