"""DiT (https://arxiv.org/abs/2212.09748): a transformer on the latents of a VAE, conditioned on a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
from mindone.diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from mindone.diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from mindspore import Tensor, nn

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.models.base import DenoisedLatents
from ddim_core.sampling.models.decoder import VaeDecoder
from ddim_core.sampling.models.networks import load_network
from ddim_core.sampling.step import Conditions


class ClassConditionalTransformer(DenoisedLatents):
    """``DiTPipeline``; its one condition is the index of the class, int32 []."""

    def __init__(self, info: CheckpointInfo, dtype: str, *, flash_attention: str = "auto") -> None:
        """Load the checkpoint's networks onto the device."""
        folder = info.folder
        transformer = load_network(
            DiTTransformer2DModel, folder / "transformer", dtype, flash_attention=flash_attention
        )
        vae = load_network(AutoencoderKL, folder / "vae", dtype, flash_attention=flash_attention)
        # The row after the classes' own is what it was trained on when the class was left out.
        self._no_class = Tensor(transformer.config.num_embeds_ada_norm, ms.int32)
        super().__init__(info, _Denoiser(transformer), VaeDecoder(vae))

    def conditions(self, specs: Sequence[SampleSpec]) -> list[tuple[Conditions, Conditions]]:
        """Return the class of each spec, and no class."""
        return [((self._class(spec),), (self._no_class,)) for spec in specs]

    def _class(self, spec: SampleSpec) -> Tensor:
        return self._no_class if spec.class_label is None else Tensor(spec.class_label, ms.int32)


class _Denoiser(nn.Cell):
    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = transformer
        self.dtype = transformer.dtype

    def construct(self, x: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
        out = self.transformer(x.astype(self.dtype), timestep, label, return_dict=False)[0]
        # The second half of the channels is the variance that the model learned for DDPM; DDIM has its own.
        return out[:, : x.shape[1]]
