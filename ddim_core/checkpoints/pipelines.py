"""The pipelines of diffusers that can be sampled: what their folders hold and what they ask of a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Takes = Literal["prompt", "class_label", "nothing"]
"""What a request tells a checkpoint to draw."""

INVERTIBLE = "StableDiffusionPipeline"
"""The one whose pictures can be inverted: those of a denoiser of latents with a prompt, and a VAE with an encoder."""

_DIFFUSERS = "diffusion_pytorch_model"
_VAE = (("AutoencoderKL",), _DIFFUSERS)
_CLIP = (("CLIPTextModel",), "model")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One class of pipelines."""

    takes: Takes
    parts: Mapping[str, tuple[tuple[str, ...], str]]
    """Its networks: folder -> (classes, stem of the weights' file)."""
    guidance_scale: float
    """What the pipeline does unless told otherwise."""
    denoiser: str = "unet"
    """Which of the parts predicts the noise."""
    tokenizers: tuple[str, ...] = ()
    """Their folders."""
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    """What it sets in the scheduler's configuration, whatever was saved."""
    scheduler_defaults: Mapping[str, Any] = field(default_factory=dict)
    """What holds where the scheduler's configuration says nothing."""
    fixed_size: bool = False
    """Whether it draws pictures of its default size alone."""


# Differs from DDIMScheduler, which clips unless told not to: latents are not in [-1, 1], and a configuration that
# another scheduler saved may not say.
_LATENTS = {"clip_sample": False}
_UNCONDITIONAL = Pipeline("nothing", {"unet": (("UNet2DModel",), _DIFFUSERS)}, guidance_scale=1.0)

PIPELINES: Mapping[str, Pipeline] = {
    "StableDiffusionPipeline": Pipeline(
        "prompt",
        {"unet": (("UNet2DConditionModel",), _DIFFUSERS), "vae": _VAE, "text_encoder": _CLIP},
        guidance_scale=7.5,
        tokenizers=("tokenizer",),
        # StableDiffusionPipeline forces these two on loading, in diffusers and in mindone.
        scheduler={"clip_sample": False, "steps_offset": 1},
    ),
    "StableDiffusionXLPipeline": Pipeline(
        "prompt",
        {
            "unet": (("UNet2DConditionModel",), _DIFFUSERS),
            "vae": _VAE,
            "text_encoder": _CLIP,
            "text_encoder_2": (("CLIPTextModelWithProjection",), "model"),
        },
        guidance_scale=5.0,
        tokenizers=("tokenizer", "tokenizer_2"),
        scheduler_defaults=_LATENTS,
    ),
    "DiTPipeline": Pipeline(
        "class_label",
        # The published checkpoints name the class from which DiTTransformer2DModel was split off.
        {"transformer": (("DiTTransformer2DModel", "Transformer2DModel"), _DIFFUSERS), "vae": _VAE},
        guidance_scale=4.0,
        denoiser="transformer",
        scheduler_defaults=_LATENTS,
        fixed_size=True,
    ),
    "DDPMPipeline": _UNCONDITIONAL,
    "DDIMPipeline": _UNCONDITIONAL,
}
