"""Checkpoints of every kind with random weights, small enough to compile in seconds; written by mindone itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ddim_core.checkpoints import resolve

CLASSES = 1000  # mindone's DiTPipeline takes class 1000 for none, whatever the checkpoint
LABELS = {0: "tench, Tinca tinca", 1: "crane", 2: "white shark, man-eater", 3: "crane"}

_SCHEDULER = {"_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "beta_schedule": "linear"}
_LATENT_SCHEDULER = {**_SCHEDULER, "clip_sample": False, "steps_offset": 1}
_TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2}


def write_sdxl(folder: Path) -> Path:
    """Write a StableDiffusionXLPipeline of 32x32 pixels whose VAE standardises its latents."""
    from mindone.diffusers import UNet2DConditionModel
    from mindone.transformers import CLIPTextModel, CLIPTextModelWithProjection
    from transformers import CLIPTextConfig

    _write_vae(folder, latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 1.0, 0.8, 1.2])
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        cross_attention_dim=40,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=12 + 6 * 8,
    )
    _save(unet, folder / "unet", 1)
    shapes = resolve("shapes")
    vocabulary = json.loads((shapes / "text_encoder/config.json").read_text())
    same = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings")
    text = {**_TEXT, **{name: vocabulary[name] for name in same}}
    _save(CLIPTextModel(CLIPTextConfig(**text)), folder / "text_encoder", 2)
    second = {**text, "hidden_size": 24, "projection_dim": 12, "hidden_act": "gelu"}
    _save(CLIPTextModelWithProjection(CLIPTextConfig(**second)), folder / "text_encoder_2", 3)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(shapes / "tokenizer", folder / name)
    parts = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "force_zeros_for_empty_prompt": True,
    }
    return _write_index(folder, "StableDiffusionXLPipeline", parts, _LATENT_SCHEDULER)


def write_dit(folder: Path) -> Path:
    """Write a DiTPipeline of 16x16 pixels and ``CLASSES`` classes that predicts the variance too."""
    from mindone.diffusers import DiTTransformer2DModel

    _write_vae(folder)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=CLASSES,
    )
    _save(transformer, folder / "transformer", 4)
    parts = {
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "id2label": {str(index): name for index, name in LABELS.items()},
    }
    return _write_index(folder, "DiTPipeline", parts, _LATENT_SCHEDULER)


def write_unconditional(folder: Path) -> Path:
    """Write a DDIMPipeline of 16x16 pixels; its scheduler clips, as that of DDPM does."""
    from mindone.diffusers import UNet2DModel

    unet = UNet2DModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=8,
    )
    _save(unet, folder / "unet", 5)
    scheduler = {**_SCHEDULER, "clip_sample": True}
    return _write_index(folder, "DDIMPipeline", {"unet": ["diffusers", "UNet2DModel"]}, scheduler)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "sdxl": write_sdxl,
    "dit": write_dit,
    "unconditional": write_unconditional,
}


def _write_vae(folder: Path, **config: Any) -> None:
    from mindone.diffusers import AutoencoderKL

    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        **config,
    )
    _save(vae, folder / "vae", 6)


def _save(network: Any, folder: Path, seed: int) -> None:
    """Give a network seeded weights of the size that trained ones have, none of them zero, and save it."""
    import mindspore as ms
    import numpy as np

    rng = np.random.default_rng(seed)
    for parameter in network.get_parameters():
        shape = parameter.shape
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 100
        values = rng.standard_normal(shape) / np.sqrt(fan_in)
        if len(shape) == 1 and parameter.name.endswith("weight"):
            values += 1
        parameter.set_data(ms.Tensor(values.astype(np.float32)))
    network.save_pretrained(folder, safe_serialization=True)


def _write_index(folder: Path, name: str, parts: dict[str, Any], scheduler: dict[str, Any]) -> Path:
    index = {"_class_name": name, "scheduler": ["diffusers", "DDIMScheduler"], **parts}
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    return folder
