"""Pipelines of mindone's that take a DDIM scheduler: which there are, and each of small networks of random weights."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddim_core.checkpoints import resolve

SIDE_PX = 32
_WORD = re.compile(r"\w+")
_DDIM = {"DDIMScheduler", "KarrasDiffusionSchedulers"}


@cache
def takers() -> dict[str, str]:
    """Return the classes of mindone that name DDIM's scheduler in their constructor, each with its module."""
    spec = importlib.util.find_spec("mindone")
    assert spec is not None and spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    found = {}
    for file in sorted((root / "diffusers/pipelines").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and any(_takes_ddim(part) for part in node.body):
                found[node.name] = ".".join(("mindone", *file.relative_to(root).with_suffix("").parts))
    return found


def _takes_ddim(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef) or node.name != "__init__":
        return False
    annotations = (ast.unparse(each.annotation) for each in node.args.args if each.annotation is not None)
    return any(_DDIM & set(_WORD.findall(annotation)) for annotation in annotations)


@cache
def pipeline_class(name: str) -> Any:
    """Return a class that ``takers`` names."""
    return getattr(importlib.import_module(takers()[name]), name)


def build(name: str, scheduler: Any) -> Any:
    """Return a pipeline around ``scheduler``, of small networks with seeded random weights.

    A part that no factory here makes is left out, as it is where a pipeline is loaded without it.
    """
    own = {**PARTS.get(_family(name), {}), **PARTS.get(name, {})}
    parts: dict[str, Any] = {}
    for parameter in list(inspect.signature(pipeline_class(name).__init__).parameters.values())[1:]:
        if "scheduler" in parameter.name:
            parts[parameter.name] = _scheduler(name, parameter.name, scheduler)
        elif parameter.name in own:
            parts[parameter.name] = own[parameter.name]()
        elif parameter.default is inspect.Parameter.empty:
            parts[parameter.name] = None
    pipe = pipeline_class(name)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(name: str, pipe: Any) -> Any:
    """Return the first of the outputs of a pipeline that takes two or three steps; the same for equal schedulers."""
    given = {**_inputs(), **CALLS.get(name, {})}
    if hasattr(pipe, "invert") and name.startswith("LEdits"):
        # It finds the noise of a picture before it edits it; the larger part of what it asks a scheduler for.
        pipe.invert(given["image"], source_prompt="", num_inversion_steps=4, generator=given["generator"])
        options = {"editing_prompt": ["a blue circle"], "edit_guidance_scale": 3.0, "output_type": "np"}
        edited = pipe(**options, use_cross_attn_mask=False, use_intersect_mask=False)
        return edited[0]
    known = inspect.signature(pipe.__call__).parameters
    outputs = pipe(**{name: value for name, value in given.items() if name in known})
    return outputs[0]


def _family(name: str) -> str:
    if "XL" in name and name not in ("I2VGenXLPipeline",):
        return "sdxl"
    return "sd"


def _scheduler(name: str, parameter: str, ours: Any) -> Any:
    from mindone.diffusers import DDIMInverseScheduler, DDPMScheduler

    if parameter == "inverse_scheduler":
        return DDIMInverseScheduler.from_config(ours.config)
    if parameter == "low_res_scheduler":
        return DDPMScheduler()
    return ours


def _inputs() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    picture = Image.fromarray(rng.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8))
    mask = Image.fromarray(
        np.where(np.arange(SIDE_PX) < SIDE_PX // 2, 255, 0).astype(np.uint8)[None].repeat(SIDE_PX, 0)
    )
    return {
        "prompt": "a red star",
        "image": picture,
        "mask_image": mask,
        "control_image": picture,
        "example_image": picture,
        "num_inference_steps": 3,
        "strength": 0.9,
        "guidance_scale": 2.0,
        "height": SIDE_PX,
        "width": SIDE_PX,
        "num_frames": 2,
        "video": [picture] * 2,
        "generator": np.random.default_rng(0),
        "output_type": "np",
        "eta": 1.0,
    }


def _seeded(network: Any) -> Any:
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


_UNET = {
    "sample_size": SIDE_PX // 2,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "cross_attention_dim": 32,
}
_UNET_XL = {
    **_UNET,
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "cross_attention_dim": 64,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 32 + 6 * 8,
}


@cache
def _unet(**config: Any) -> Any:
    from mindone.diffusers import UNet2DConditionModel

    return _seeded(UNet2DConditionModel(**{**_UNET, **config}))


@cache
def _unet_xl(**config: Any) -> Any:
    from mindone.diffusers import UNet2DConditionModel

    return _seeded(UNet2DConditionModel(**{**_UNET_XL, **config}))


@cache
def _vae(**config: Any) -> Any:
    from mindone.diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "sample_size": SIDE_PX}
    return _seeded(AutoencoderKL(**{**blocks, **sizes, **config}))


def _text_config() -> dict[str, Any]:
    vocabulary = json.loads((resolve("shapes") / "text_encoder/config.json").read_text())
    same = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    return {**sizes, "projection_dim": 32, **{name: vocabulary[name] for name in same}}


@cache
def _text_encoder() -> Any:
    from mindone.transformers import CLIPTextModel
    from transformers import CLIPTextConfig

    return _seeded(CLIPTextModel(CLIPTextConfig(**_text_config())))


@cache
def _text_encoder_2() -> Any:
    from mindone.transformers import CLIPTextModelWithProjection
    from transformers import CLIPTextConfig

    return _seeded(CLIPTextModelWithProjection(CLIPTextConfig(**_text_config(), hidden_act="gelu")))


@cache
def _tokenizer() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(resolve("shapes") / "tokenizer", local_files_only=True)


@cache
def _image_encoder() -> Any:
    from mindone.transformers import CLIPVisionModelWithProjection
    from transformers import CLIPVisionConfig

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    return _seeded(
        CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, projection_dim=32, image_size=SIDE_PX, patch_size=8))
    )


def _image_processor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size=SIDE_PX, crop_size=SIDE_PX)


@cache
def _controlnet(like: Callable[[], Any]) -> Any:
    from mindone.diffusers import ControlNetModel

    return _seeded(
        ControlNetModel.from_unet(like(), conditioning_embedding_out_channels=(8, 16), load_weights_from_unet=False)
    )


@cache
def _text_decoder() -> Any:
    from mindone.diffusers.pipelines.unidiffuser.modeling_text_decoder import UniDiffuserTextDecoder

    sizes = {"n_positions": 80, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 32}
    return _seeded(UniDiffuserTextDecoder(prefix_length=77, prefix_inner_dim=32, prefix_hidden_dim=32, **sizes))


@cache
def _movq() -> Any:
    from mindone.diffusers import VQModel

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return _seeded(VQModel(block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, **blocks))


@cache
def _dit() -> Any:
    from mindone.diffusers import DiTTransformer2DModel

    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": SIDE_PX // 2}
    return _seeded(
        DiTTransformer2DModel(in_channels=4, out_channels=8, patch_size=2, num_embeds_ada_norm=1000, **sizes)
    )


@cache
def _pixels() -> Any:
    from mindone.diffusers import UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 8}
    return _seeded(UNet2DModel(sample_size=16, **sizes, **blocks))


def nothing() -> None:
    """Leave a part out."""


_SD: Mapping[str, Callable[[], Any]] = {
    "unet": _unet,
    "vae": _vae,
    "text_encoder": _text_encoder,
    "tokenizer": _tokenizer,
    "feature_extractor": lambda: None,
    "safety_checker": lambda: None,
    "requires_safety_checker": lambda: False,
    "controlnet": lambda: _controlnet(_unet),
}
_SDXL: Mapping[str, Callable[[], Any]] = {
    **_SD,
    "unet": _unet_xl,
    "text_encoder_2": _text_encoder_2,
    "tokenizer_2": _tokenizer,
    "controlnet": lambda: _controlnet(_unet_xl),
    "add_watermarker": lambda: False,
}

PARTS: Mapping[str, Mapping[str, Callable[[], Any]]] = {
    "sd": _SD,
    "sdxl": _SDXL,
    "AllegroPipeline": {"vae": nothing},
    "CogVideoXFunControlPipeline": {"vae": nothing},
    "DDIMPipeline": {"unet": _pixels},
    "DiTPipeline": {"transformer": _dit},
    "KandinskyPipeline": {"movq": _movq},
    "KandinskyCombinedPipeline": {"movq": _movq},
    "KandinskyImg2ImgPipeline": {"movq": _movq},
    "KandinskyImg2ImgCombinedPipeline": {"movq": _movq},
    "KandinskyInpaintPipeline": {"movq": _movq},
    "KandinskyInpaintCombinedPipeline": {"movq": _movq},
    "LDMTextToImagePipeline": {"vqvae": _vae, "bert": _text_encoder},
    "LDMSuperResolutionPipeline": {"vqvae": _movq, "unet": lambda: None},
    "UniDiffuserPipeline": {"text_decoder": _text_decoder, "image_encoder": _image_encoder, "unet": _unet},
    "StableDiffusionInstructPix2PixPipeline": {"unet": lambda: _unet(in_channels=8)},
    "StableDiffusionXLInstructPix2PixPipeline": {"unet": lambda: _unet_xl(in_channels=8)},
    "StableDiffusionUpscalePipeline": {"unet": lambda: _unet(in_channels=7, num_class_embeds=1000)},
    "StableDiffusionImageVariationPipeline": {"image_encoder": _image_encoder, "feature_extractor": _image_processor},
    "MarigoldDepthPipeline": {"unet": lambda: _unet(in_channels=8)},
    "MarigoldNormalsPipeline": {"unet": lambda: _unet(in_channels=8)},
    "MarigoldIntrinsicsPipeline": {"unet": lambda: _unet(in_channels=12, out_channels=8)},
}
"""What makes a pipeline's parts: of a family, and of a pipeline itself."""
CALLS: Mapping[str, Mapping[str, Any]] = {
    "DiTPipeline": {"class_labels": [1, 5]},
    "MarigoldDepthPipeline": {"processing_resolution": SIDE_PX, "match_input_resolution": False},
    "MarigoldNormalsPipeline": {"processing_resolution": SIDE_PX, "match_input_resolution": False},
    "MarigoldIntrinsicsPipeline": {"processing_resolution": SIDE_PX, "match_input_resolution": False},
    "StableDiffusionAttendAndExcitePipeline": {"token_indices": [2], "max_iter_to_alter": 0},
}
"""What a pipeline is called with beside, or in place of, what all are."""
