"""Small networks of random weights of the pipelines beside Stable Diffusion and SDXL themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tests import tiny_inputs as inputs
from tests import tiny_networks as networks
from tests.tiny_networks import SIDE_PX, named

Parts = Mapping[str, Callable[[], Any]]

_TRANSFORMER = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "caption_channels": 32}
_LATENT = {"in_channels": 4, "out_channels": 8, "sample_size": SIDE_PX // 2, "patch_size": 2}


def pixart() -> Any:
    sizes = {"cross_attention_dim": 16, "num_embeds_ada_norm": 1000, "norm_type": "ada_norm_single"}
    return named("PixArtTransformer2DModel", **_TRANSFORMER, **_LATENT, **sizes)


def latte() -> Any:
    sizes = {"cross_attention_dim": 16, "num_embeds_ada_norm": 1000, "norm_type": "ada_norm_single"}
    options = {"norm_elementwise_affine": False, "norm_eps": 1e-6, "activation_fn": "gelu-approximate"}
    return named("LatteTransformer3DModel", **_TRANSFORMER, **_LATENT, **sizes, **options, video_length=2)


def allegro() -> Any:
    sizes = {
        "attention_head_dim": 24,
        "cross_attention_dim": 48,
        "sample_height": 16,
        "sample_width": 16,
        "sample_frames": 2,
    }
    return named("AllegroTransformer3DModel", **{**_TRANSFORMER, **sizes})


def allegro_vae() -> Any:
    blocks = {"down_block_types": ("AllegroDownBlock3D",) * 4, "up_block_types": ("AllegroUpBlock3D",) * 4}
    sizes = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 2, "layers_per_block": 1, "sample_size": SIDE_PX}
    return named("AutoencoderKLAllegro", latent_channels=4, temporal_compression_ratio=4, **blocks, **sizes)


def bria() -> Any:
    sizes = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
    return named("BriaTransformer2DModel", in_channels=16, joint_attention_dim=32, axes_dims_rope=(0, 4, 4), **sizes)


def cogvideo() -> Any:
    sizes = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 1,
        "text_embed_dim": 32,
        "time_embed_dim": 8,
    }
    shape = {"in_channels": 8, "out_channels": 4, "sample_width": 4, "sample_height": 4, "sample_frames": 5}
    return named(
        "CogVideoXTransformer3DModel", max_text_seq_length=8, use_rotary_positional_embeddings=True, **sizes, **shape
    )


def cogvideo_vae() -> Any:
    blocks = {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4}
    sizes = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 2, "layers_per_block": 1, "latent_channels": 4}
    return named("AutoencoderKLCogVideoX", **blocks, **sizes)


def _motion_adapter(**config: Any) -> Any:
    sizes = {"motion_layers_per_block": 1, "motion_num_attention_heads": 2, "motion_norm_num_groups": 4}
    return named("MotionAdapter", block_out_channels=(16, 32), **sizes, **config)


@cache
def _motion_unet(like: Callable[[], Any], **config: Any) -> Any:
    from mindone.diffusers import UNetMotionModel

    return networks.seeded(UNetMotionModel.from_unet2d(like(), _motion_adapter(**config)))


def sparse_controlnet() -> Any:
    blocks = {"down_block_types": ("DownBlockMotion", "CrossAttnDownBlockMotion"), "block_out_channels": (16, 32)}
    sizes = {"layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4, "cross_attention_dim": 32}
    return named("SparseControlNetModel", motion_num_attention_heads=2, **blocks, **sizes)


def unet_3d(name: str) -> Any:
    blocks = {
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    }
    sizes = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    return named(name, sample_size=SIDE_PX // 2, cross_attention_dim=32, **blocks, **sizes)


# An adapter's features are added within blocks that attend, and after the others.
ADAPTED = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}


def adapter(kind: str) -> Any:
    return named("T2IAdapter", channels=(16, 32), num_res_blocks=1, downscale_factor=2, adapter_type=kind)


def union() -> Any:
    same = {name: value for name, value in networks.UNET_XL.items() if name not in ("sample_size", "up_block_types")}
    sizes = {"num_control_type": 6, "num_trans_channel": 16, "num_trans_head": 2, "num_proj_channel": 16}
    return named("ControlNetUnionModel", conditioning_embedding_out_channels=(8, 16), **same, **sizes)


def controlnet_xs(**config: Any) -> Any:
    """Return a UNet and its ControlNet-XS in one; mindone cannot join small ones of two (``from_unet``)."""
    names = ("sample_size", "block_out_channels", "down_block_types", "up_block_types", "norm_num_groups")
    own = {"ctrl_block_out_channels": (8, 16), "ctrl_max_norm_num_groups": 4, "ctrl_num_attention_heads": 2}
    same = {name: networks.UNET[name] for name in (*names, "cross_attention_dim")}
    embedding = {"ctrl_conditioning_embedding_out_channels": (8, 16)}
    return named("UNetControlNetXSModel", **{**same, "num_attention_heads": 4, **own, **embedding, **config})


def controlnet_xs_xl() -> Any:
    names = ("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")
    return controlnet_xs(**{name: networks.UNET_XL[name] for name in (*names, "cross_attention_dim")})


@cache
def _multilingual() -> Any:
    from mindone.diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    vocabulary = {"vocab_size": networks.text_config()["vocab_size"], "max_position_embeddings": 80, "pad_token_id": 1}
    return networks.seeded(MultilingualCLIP(MCLIPConfig(transformerDimSize=32, imageDimSize=32, **sizes, **vocabulary)))


def _prior() -> Any:
    return named(
        "PriorTransformer",
        num_attention_heads=2,
        attention_head_dim=8,
        embedding_dim=32,
        num_embeddings=24,
        num_layers=1,
    )


def _kandinsky_unet(**config: Any) -> Any:
    kinds = {"addition_embed_type": "text_image", "encoder_hid_dim": 32, "encoder_hid_dim_type": "text_image_proj"}
    return networks.unet(out_channels=8, **kinds, **config)


@cache
def _by_example() -> Any:
    from mindone.diffusers.pipelines.paint_by_example.image_encoder import PaintByExampleImageEncoder

    return networks.seeded(PaintByExampleImageEncoder(networks.image_encoder().config, proj_size=32))


def _part(module: str, name: str, **config: Any) -> Callable[[], Any]:
    return lambda: named(name, f"mindone.diffusers.pipelines.{module}", **config)


@cache
def _vocoder() -> Any:
    from mindone.transformers import SpeechT5HifiGan
    from transformers import SpeechT5HifiGanConfig

    sizes = {
        "model_in_dim": 8,
        "upsample_initial_channel": 16,
        "upsample_rates": [2, 2],
        "upsample_kernel_sizes": [4, 4],
    }
    blocks = {"resblock_kernel_sizes": [3, 7], "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]]}
    return networks.seeded(SpeechT5HifiGan(SpeechT5HifiGanConfig(**sizes, **blocks, normalize_before=False)))


def _audio_unet() -> Any:
    return networks.unet(
        class_embed_type="simple_projection", projection_class_embeddings_input_dim=32, class_embeddings_concat=True
    )


def _audio_unet_2() -> Any:
    module = "mindone.diffusers.pipelines.audioldm2.modeling_audioldm2"
    same = {name: value for name, value in networks.UNET.items() if name != "cross_attention_dim"}
    return named("AudioLDM2UNet2DConditionModel", module, **same, cross_attention_dim=((32, 32), (32, 32)))


def _uvit() -> Any:
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 16, "patch_size": 2}
    widths = {"text_dim": 32, "clip_img_dim": 32, "in_channels": 4, "out_channels": 4, "num_embeds_ada_norm": 1000}
    module = "mindone.diffusers.pipelines.unidiffuser.modeling_uvit"
    return named("UniDiffuserModel", module, activation_fn="gelu", num_text_tokens=24, **sizes, **widths)


SEEING: Parts = {"image_encoder": networks.image_encoder, "feature_extractor": networks.image_processor}
MOTION: Parts = {"motion_adapter": _motion_adapter, "unet": lambda: _motion_unet(networks.unet)}
MOTION_XL: Parts = {**MOTION, "unet": lambda: _motion_unet(networks.unet_xl)}
ANIMATED: Parts = {
    "motion_adapter": lambda: _motion_adapter(conv_in_channels=9),
    "unet": lambda: _motion_unet(networks.unet, conv_in_channels=9),
}
AUDIO: Parts = {"unet": _audio_unet, "vae": lambda: networks.vae(in_channels=1, out_channels=1), "vocoder": _vocoder}
AUDIO_2: Parts = {
    **AUDIO,
    "unet": _audio_unet_2,
    "text_encoder_2": networks.text_encoder,
    "language_model": networks.text_encoder,
}
MUSIC: Parts = {**AUDIO, "text_encoder": inputs.Hidden}
BY_EXAMPLE: Parts = {**SEEING, "image_encoder": _by_example, "unet": lambda: networks.unet(in_channels=9)}
GLIGEN: Parts = {
    **SEEING,
    "processor": networks.image_processor,
    "image_project": _part("stable_diffusion.clip_image_project_model", "CLIPImageProjection", hidden_size=32),
    "unet": lambda: networks.unet(attention_type="gated-text-image"),
}
KANDINSKY: Parts = {
    "text_encoder": _multilingual,
    "unet": _kandinsky_unet,
    "movq": lambda: networks.movq(norm_type="spatial", block_out_channels=(32, 32), norm_num_groups=32),
    "prior_prior": _prior,
    "prior_image_encoder": networks.image_encoder,
    "prior_text_encoder": networks.text_encoder_2,
    "prior_tokenizer": networks.tokenizer,
    "prior_image_processor": networks.image_processor,
}
KANDINSKY_INPAINT: Parts = {**KANDINSKY, "unet": lambda: _kandinsky_unet(in_channels=9)}
SUPER_RESOLUTION: Parts = {
    "vqvae": lambda: networks.movq(latent_channels=3),
    "unet": lambda: networks.pixels(in_channels=6),
}
UNCLIP: Parts = {
    **SEEING,
    "image_normalizer": _part(
        "stable_diffusion.stable_unclip_image_normalizer", "StableUnCLIPImageNormalizer", embedding_dim=32
    ),
    "prior": _prior,
    "prior_tokenizer": networks.tokenizer,
    "prior_text_encoder": networks.text_encoder_2,
    "unet": lambda: networks.unet(class_embed_type="projection", projection_class_embeddings_input_dim=64),
}
UNIDIFFUSER: Parts = {
    "text_decoder": networks.text_decoder,
    "image_encoder": networks.image_encoder,
    "clip_tokenizer": networks.tokenizer,
    "clip_image_processor": networks.image_processor,
    "unet": _uvit,
}
