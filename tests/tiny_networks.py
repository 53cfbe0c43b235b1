"""Small networks of random weights that the pipelines of mindone's Stable Diffusion, SDXL and DiT are made of."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ddim_core.checkpoints import resolve

SIDE_PX = 32


def seeded(network: Any) -> Any:
    """Give a network seeded weights of the size that trained ones have."""
    import mindspore as ms

    rng = np.random.default_rng(5)
    for parameter in network.get_parameters():
        fan_in = int(np.prod(parameter.shape[1:])) if len(parameter.shape) > 1 else 100
        values = rng.standard_normal(parameter.shape) / np.sqrt(fan_in)
        if len(parameter.shape) == 1 and parameter.name.endswith("weight"):
            values += 1
        parameter.set_data(ms.Tensor(values.astype(np.float32)))
    return network.set_train(False)


@cache
def named(name: str, module: str = "mindone.diffusers", **config: Any) -> Any:
    """Return a network of mindone's by its class's name, with seeded weights."""
    return seeded(getattr(importlib.import_module(module), name)(**config))


UNET = {
    "sample_size": SIDE_PX // 2,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "cross_attention_dim": 32,
}
UNET_XL = {
    **UNET,
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "cross_attention_dim": 64,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 32 + 6 * 8,
}


@cache
def unet(**config: Any) -> Any:
    from mindone.diffusers import UNet2DConditionModel

    return seeded(UNet2DConditionModel(**{**UNET, **config}))


@cache
def unet_xl(**config: Any) -> Any:
    from mindone.diffusers import UNet2DConditionModel

    return seeded(UNet2DConditionModel(**{**UNET_XL, **config}))


@cache
def vae(**config: Any) -> Any:
    from mindone.diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "sample_size": SIDE_PX}
    return seeded(AutoencoderKL(**{**blocks, **sizes, **config}))


def text_config() -> dict[str, Any]:
    vocabulary = json.loads((resolve("shapes") / "text_encoder/config.json").read_text())
    same = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    return {**sizes, "projection_dim": 32, **{name: vocabulary[name] for name in same}}


@cache
def text_encoder(**config: Any) -> Any:
    from mindone.transformers import CLIPTextModel
    from transformers import CLIPTextConfig

    return seeded(CLIPTextModel(CLIPTextConfig(**{**text_config(), **config})))


@cache
def text_encoder_2() -> Any:
    from mindone.transformers import CLIPTextModelWithProjection
    from transformers import CLIPTextConfig

    return seeded(CLIPTextModelWithProjection(CLIPTextConfig(**text_config(), hidden_act="gelu")))


@cache
def tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(resolve("shapes") / "tokenizer", local_files_only=True)


@cache
def image_encoder() -> Any:
    from mindone.transformers import CLIPVisionModelWithProjection
    from transformers import CLIPVisionConfig

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    return seeded(
        CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, projection_dim=32, image_size=SIDE_PX, patch_size=8))
    )


def image_processor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size=SIDE_PX, crop_size=SIDE_PX)


@cache
def controlnet(like: Callable[[], Any]) -> Any:
    from mindone.diffusers import ControlNetModel

    return seeded(
        ControlNetModel.from_unet(like(), conditioning_embedding_out_channels=(8, 16), load_weights_from_unet=False)
    )


@cache
def text_decoder() -> Any:
    from mindone.diffusers.pipelines.unidiffuser.modeling_text_decoder import UniDiffuserTextDecoder

    sizes = {"n_positions": 80, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 32}
    return seeded(UniDiffuserTextDecoder(prefix_length=77, prefix_inner_dim=32, prefix_hidden_dim=32, **sizes))


def movq(**config: Any) -> Any:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4}
    return named("VQModel", **{**blocks, **sizes, **config})


@cache
def dit() -> Any:
    from mindone.diffusers import DiTTransformer2DModel

    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": SIDE_PX // 2}
    return seeded(DiTTransformer2DModel(in_channels=4, out_channels=8, patch_size=2, num_embeds_ada_norm=1000, **sizes))


def pixels(**config: Any) -> Any:
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 8}
    return named("UNet2DModel", sample_size=16, **sizes, **blocks, **config)
