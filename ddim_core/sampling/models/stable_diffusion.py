"""Stable Diffusion 1 and 2: a UNet on the latents of a VAE, conditioned on the tokens of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mindone.diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from mindone.diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from mindone.transformers import CLIPTextModel
from mindspore import Tensor, nn

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.models.base import DenoisedLatents
from ddim_core.sampling.models.decoder import VaeDecoder
from ddim_core.sampling.models.encoder import VaeEncoder
from ddim_core.sampling.models.networks import load_network
from ddim_core.sampling.models.text import PromptMemory, TextEncoder
from ddim_core.sampling.step import Conditions
from ddim_core.sampling.windows import Window


class StableDiffusion(DenoisedLatents):
    """``StableDiffusionPipeline``; its one condition is the text, [T, D] for the T tokens of its windows."""

    def __init__(self, info: CheckpointInfo, dtype: str, *, flash_attention: str = "auto") -> None:
        """Load the checkpoint's networks onto the device."""
        folder = info.folder
        self._text_encoder = TextEncoder(CLIPTextModel, info, "", dtype)
        windows = [self._text_encoder.windows]
        self._prompts = PromptMemory(windows, self._encode)
        unet = load_network(UNet2DConditionModel, folder / "unet", dtype, flash_attention=flash_attention)
        vae = load_network(AutoencoderKL, folder / "vae", dtype, flash_attention=flash_attention)
        super().__init__(info, _Denoiser(unet), VaeDecoder(vae), VaeEncoder(vae), windows)

    def conditions(self, specs: Sequence[SampleSpec]) -> list[tuple[Conditions, Conditions]]:
        """Return the text and the negative one of each spec."""
        return self._prompts.conditions(specs)

    def _encode(self, windows: Sequence[Window]) -> Conditions:
        return (self._text_encoder(windows)[0],)


class _Denoiser(nn.Cell):
    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def construct(self, x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        return self.unet(x.astype(text.dtype), timestep, text, return_dict=False)[0]
