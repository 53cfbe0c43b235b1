"""A Stable Diffusion checkpoint on the device: text to conditioning, the denoiser, latents to pixels.

Import it after ``device.start``: mindone takes its kernels when it is imported.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import numpy.typing as npt
from mindone.diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from mindone.diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from mindone.transformers.models.clip.modeling_clip import CLIPTextModel
from mindspore import Tensor, nn, ops
from transformers import CLIPTokenizer

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.errors import CheckpointError, OutOfMemoryError
from ddim_core.sampling.device import device_error

logger = logging.getLogger(__name__)

# Fixed batches: a result's bytes depend on the batch's shape, and every shape compiles anew.
_TEXT_BATCH = 8
_REMEMBERED_PROMPTS = 1024


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image from the decoder."""

    pixels: npt.NDArray[np.uint8]
    """RGB, [height, width, 3]."""
    finite: bool
    """Whether every value was a number; the pixels mean nothing otherwise."""


class StableDiffusion:
    """The networks of one checkpoint, as the sampling loop uses them."""

    def __init__(self, info: CheckpointInfo, *, dtype: str = "float32", flash_attention: str = "auto") -> None:
        """Load the checkpoint's networks onto the device.

        Args:
            info: The checkpoint, as ``ddim_core.checkpoints.describe`` returned it.
            dtype: Of weights and activations: ``float32``, ``float16`` or ``bfloat16``.
            flash_attention: ``on``, ``off``, or ``auto`` to leave it to mindone, which uses it on Ascend.

        Raises:
            CheckpointError: The weights do not fit the model classes.
            OutOfMemoryError: The weights do not fit the device.
        """
        self.info = info
        self._tokenizer = CLIPTokenizer.from_pretrained(info.folder / "tokenizer", local_files_only=True)
        self._text_encoder = _network(CLIPTextModel, info.folder / "text_encoder", getattr(ms, dtype))
        unet = _network(UNet2DConditionModel, info.folder / "unet", getattr(ms, dtype))
        vae = _network(AutoencoderKL, info.folder / "vae", getattr(ms, dtype))
        if flash_attention != "auto":
            for network in (unet, vae):
                network.set_use_memory_efficient_attention_xformers(flash_attention == "on")
        self.denoiser = UNetDenoiser(unet)
        self._decoder = _Decoder(vae)
        self._remembered: OrderedDict[str, Tensor] = OrderedDict()

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return [C, h, w] of the latents of a picture of that many pixels."""
        factor = self.info.vae_scale_factor
        return self.info.latent_channels, height // factor, width // factor

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """Return what the denoiser is conditioned on for each prompt, [T, D]; recent prompts are remembered."""
        found = {prompt: self._remembered[prompt] for prompt in prompts if prompt in self._remembered}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        for start in range(0, len(missing), _TEXT_BATCH):
            batch = missing[start : start + _TEXT_BATCH]
            found.update(zip(batch, self._encode_batch(batch), strict=True))
        self._remembered.update(found)
        for prompt in found:
            self._remembered.move_to_end(prompt)
        while len(self._remembered) > _REMEMBERED_PROMPTS:
            self._remembered.popitem(last=False)
        return [found[prompt] for prompt in prompts]

    def decode(self, latents: Sequence[Tensor], batch: int) -> list[Decoded]:
        """Return the pictures of latents [C, h, w], at most ``batch`` of them; waits for the device.

        A short batch is filled up with its last latents, so that the decoder always sees one shape.
        """
        padded = [*latents, *[latents[-1]] * (batch - len(latents))]
        pixels, finite = self._decoder(ops.stack(padded))
        images, sound = pixels.asnumpy(), finite.asnumpy()
        return [Decoded(images[i], bool(sound[i])) for i in range(len(latents))]

    def call_eagerly(self) -> None:
        """Call the denoiser once, uncompiled: a thread other than the main one cannot compile before.

        Without it the compiler stops with "__input_key_2__ is not defined".
        """
        text = self.encode([""])[0]
        x = ops.zeros((1, *self.latent_shape(self.info.default_height, self.info.default_width)), ms.float32)
        self.denoiser(x, ops.zeros((1,), ms.float32), ops.expand_dims(text, 0)).asnumpy()

    def _encode_batch(self, prompts: list[str]) -> list[Tensor]:
        padded = prompts + [""] * (_TEXT_BATCH - len(prompts))
        length = min(self._tokenizer.model_max_length, self._text_encoder.config.max_position_embeddings)
        for count in map(len, self._tokenizer(prompts, verbose=False).input_ids):
            if count > length:
                extra = {"action": "prompt_cut", "tokens": count, "limit": length}
                logger.warning("a prompt was cut to what the text encoder takes", extra=extra)
        tokens = self._tokenizer(padded, padding="max_length", max_length=length, truncation=True, return_tensors="np")
        states = self._text_encoder(Tensor(tokens.input_ids.astype(np.int32)))[0]
        return [states[i] for i in range(len(prompts))]


class UNetDenoiser(nn.Cell):
    """UNet2DConditionModel with the signature that ``DenoisingStep`` calls."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def construct(self, x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:  # noqa: D102
        return self.unet(x.astype(text.dtype), timestep, text, return_dict=False)[0]


class _Decoder(nn.Cell):
    """The VAE's decoder and the conversion to 8 bits, as one compiled graph."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae
        self.scale = 1.0 / vae.config.scaling_factor
        self.dtype = vae.dtype

    @ms.jit(jit_level="O0")
    def construct(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        decoded = self.vae.decode((latents * self.scale).astype(self.dtype), return_dict=False)[0].astype(ms.float32)
        # The decoder's norms can turn infinite latents into a finite picture of nothing.
        finite = ops.logical_and(ops.isfinite(latents).all((1, 2, 3)), ops.isfinite(decoded).all((1, 2, 3)))
        unit = ops.clamp(decoded / 2 + 0.5, 0.0, 1.0)
        return ops.round(unit * 255.0).astype(ms.uint8).permute(0, 2, 3, 1), finite


def _network(network_class: Any, folder: Path, dtype: Any) -> Any:
    """Load one network; refuse weights that are missing or of another shape, which mindone would leave random."""
    dtype_option = "dtype" if network_class is CLIPTextModel else "mindspore_dtype"
    options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True, dtype_option: dtype}
    try:
        network, loading = network_class.from_pretrained(folder, **options)
    except Exception as error:  # mindone and safetensors raise whatever came up, SafetensorError and AttributeError too
        if isinstance(shortage := device_error(error), OutOfMemoryError):
            raise shortage from error
        raise CheckpointError(f"{folder} must hold a {network_class.__name__}, got one that fails: {error}") from error
    absent = [*loading["missing_keys"], *loading["mismatched_keys"]]
    if absent:
        raise CheckpointError(
            f"{folder} must hold all weights of a {network_class.__name__}, got {len(absent)} missing or of another "
            f"shape, such as {absent[0]}"
        )
    return network.set_train(False)
