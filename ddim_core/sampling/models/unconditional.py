"""Unconditional diffusion of pixels, as in DDPM (https://arxiv.org/abs/2006.11239): a UNet and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mindone.diffusers.models.unets.unet_2d import UNet2DModel
from mindspore import Tensor, nn

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.models.base import DenoisedLatents
from ddim_core.sampling.models.decoder import PixelDecoder
from ddim_core.sampling.models.networks import load_network
from ddim_core.sampling.step import Conditions


class UnconditionalPixels(DenoisedLatents):
    """``DDPMPipeline`` and ``DDIMPipeline``; there are no conditions, and so nothing that guidance could lead to."""

    def __init__(self, info: CheckpointInfo, dtype: str, *, flash_attention: str = "auto") -> None:
        """Load the checkpoint's network onto the device."""
        unet = load_network(UNet2DModel, info.folder / "unet", dtype, flash_attention=flash_attention)
        super().__init__(info, _Denoiser(unet), PixelDecoder())

    def conditions(self, specs: Sequence[SampleSpec]) -> list[tuple[Conditions, Conditions]]:
        """Return nothing, twice, for each spec."""
        return [((), ()) for _ in specs]


class _Denoiser(nn.Cell):
    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet
        self.dtype = unet.dtype

    def construct(self, x: Tensor, timestep: Tensor) -> Tensor:
        return self.unet(x.astype(self.dtype), timestep, return_dict=False)[0]
