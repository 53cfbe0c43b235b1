"""A larger network on the latents of a 512 x 512 picture, of random weights: it makes noise, and takes the time.

Import it after ``device.start``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mindone.diffusers import UNet2DConditionModel
from mindspore import Tensor, nn

from ddim_core.contracts.sample import SampleSpec

LATENTS = (4, 64, 64)
_TEXT = (77, 128)


class LargerModel:
    """What a runner needs of a model; still small, since two cores have to run it."""

    def __init__(self) -> None:
        self.denoiser = _Denoiser()
        self._text = Tensor(np.zeros(_TEXT, np.float32))

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the one shape there is."""
        return LATENTS

    def conditions(self, specs: Sequence[SampleSpec]) -> list[tuple[tuple[Tensor], tuple[Tensor]]]:
        """Return the same text for all."""
        return [((self._text,), (self._text,)) for _ in specs]


class _Denoiser(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        network = UNet2DConditionModel(
            sample_size=LATENTS[-1],
            block_out_channels=(64, 128),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=_TEXT[-1],
        )
        self.unet = network.set_train(False)

    def construct(self, x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        return self.unet(x, timestep, text, return_dict=False)[0]
