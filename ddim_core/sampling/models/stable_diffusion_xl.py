"""Stable Diffusion XL (https://arxiv.org/abs/2307.01952): two text encoders, and the picture's size as a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindone.diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from mindone.diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from mindone.transformers import CLIPTextModel, CLIPTextModelWithProjection
from mindspore import Tensor, nn, ops

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.models.base import DenoisedLatents
from ddim_core.sampling.models.decoder import VaeDecoder
from ddim_core.sampling.models.networks import load_network
from ddim_core.sampling.models.text import PromptMemory, TextEncoder
from ddim_core.sampling.step import Conditions
from ddim_core.sampling.windows import Window


class StableDiffusionXL(DenoisedLatents):
    """``StableDiffusionXLPipeline``; its conditions are the text [T, D], the pooled text [P], and six sizes."""

    def __init__(self, info: CheckpointInfo, dtype: str, *, flash_attention: str = "auto") -> None:
        """Load the checkpoint's networks onto the device."""
        folder = info.folder
        self._first = TextEncoder(CLIPTextModel, info, "", dtype)
        self._second = TextEncoder(CLIPTextModelWithProjection, info, "_2", dtype)
        windows = [self._first.windows, self._second.windows]
        self._prompts = PromptMemory(windows, self._encode)
        unet = load_network(UNet2DConditionModel, folder / "unet", dtype, flash_attention=flash_attention)
        # Its decoder overflows in float16, as force_upcast says; bfloat16 has the range.
        vae_dtype = "float32" if dtype == "float16" and info.upcasts_vae else dtype
        vae = load_network(AutoencoderKL, folder / "vae", vae_dtype, flash_attention=flash_attention)
        super().__init__(info, _Denoiser(unet), VaeDecoder(vae, standardised=True), windows=windows)

    def conditions(self, specs: Sequence[SampleSpec]) -> list[tuple[Conditions, Conditions]]:
        """Return the texts and sizes of each spec; an empty negative prompt is zeros where the checkpoint says so."""
        pairs = []
        for spec, (positive, negative) in zip(specs, self._prompts.conditions(specs), strict=True):
            zeros = self._info.zeros_for_empty_prompt and not spec.negative_prompt
            away = tuple(map(ops.zeros_like, positive)) if zeros else negative
            pairs.append(((*positive, _sizes(spec)), (*away, _sizes(spec))))
        return pairs

    def _encode(self, first: Sequence[Window], second: Sequence[Window]) -> Conditions:
        outputs = self._first(first, hidden_states=True), self._second(second, hidden_states=True)
        text = ops.concat([each[-1][-2] for each in outputs], axis=-1)
        return text, outputs[1][0]


class _Denoiser(nn.Cell):
    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def construct(self, x: Tensor, timestep: Tensor, text: Tensor, pooled: Tensor, sizes: Tensor) -> Tensor:
        added = {"text_embeds": pooled, "time_ids": sizes}
        return self.unet(x.astype(text.dtype), timestep, text, added_cond_kwargs=added, return_dict=False)[0]


def _sizes(spec: SampleSpec) -> Tensor:
    """Return original size, top left corner of the crop and target size: those of a picture that was not cropped."""
    return Tensor(np.array([spec.height, spec.width, 0, 0, spec.height, spec.width]), ms.float32)
