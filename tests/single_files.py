"""Checkpoint folders as single files, in the names that the original implementations of Stable Diffusion gave weights.

Written from those implementations' own names (CompVis/stable-diffusion, Stability-AI/stablediffusion and
generative-models, mlfoundations/open_clip), not from the mapping that is tested.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

Weights = dict[str, np.ndarray[Any, Any]]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_VAE = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_OPEN_CLIP = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.final_layer_norm.": "ln_final.",
    "text_model.encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.": "attn.",
}


def single_file(folder: Path, *, open_clip: bool = False) -> Weights:
    """Return all weights of a folder as one file has them; ``open_clip``: the text encoder is Stable Diffusion 2's."""
    unet = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    layers = json.loads((folder / "unet/config.json").read_text())["layers_per_block"]
    weights = {f"model.diffusion_model.{_unet_name(name, layers, unet)}": weight for name, weight in unet.items()}
    for name, weight in load_file(folder / "vae/diffusion_pytorch_model.safetensors").items():
        weights[f"first_stage_model.{_vae_name(name, _levels(folder))}"] = _as_convolution(name, weight)
    text = load_file(folder / "text_encoder/model.safetensors")
    is_xl = (folder / "text_encoder_2").is_dir()
    if open_clip:
        weights |= {f"cond_stage_model.model.{name}": weight for name, weight in _open_clip(text).items()}
    else:
        prefix = "conditioner.embedders.0" if is_xl else "cond_stage_model"
        weights |= {f"{prefix}.transformer.{name}": weight for name, weight in text.items()}
    if is_xl:
        second = load_file(folder / "text_encoder_2/model.safetensors")
        weights |= {f"conditioner.embedders.1.model.{name}": weight for name, weight in _open_clip(second).items()}
    return weights


def _unet_name(name: str, layers: int, unet: Weights) -> str:
    for end, original in _UNET_ENDS.items():
        if name.startswith(f"{end}."):
            return name.replace(end, original, 1)
    if middle := re.fullmatch(r"mid_block\.(\w+\.\d)\.(.+)", name):
        return f"middle_block.{_MIDDLE[middle[1]]}.{_within(middle[2], middle[1])}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name)
    assert match is not None, name
    side, block, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    first = block * (layers + 1) + (side == "down")
    if kind == "downsamplers":
        return f"input_blocks.{first + layers}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        attends = any(each.startswith(f"up_blocks.{block}.attentions.") for each in unet)
        return f"output_blocks.{first + layers}.{2 if attends else 1}.{rest}"
    place = f"{'input' if side == 'down' else 'output'}_blocks.{first + index}"
    return f"{place}.{0 if kind == 'resnets' else 1}.{_within(rest, kind)}"


def _within(rest: str, kind: str) -> str:
    head, _, tail = rest.partition(".")
    return f"{_RESNET[head]}.{tail}" if kind.startswith("resnets") else rest


def _vae_name(name: str, levels: int) -> str:
    name = re.sub(r"down_blocks\.(\d+)\.resnets\.", r"down.\1.block.", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0\.", r"down.\1.downsample.", name)
    name = re.sub(r"up_blocks\.(\d+)\.resnets\.", lambda m: f"up.{levels - 1 - int(m[1])}.block.", name)
    name = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0\.", lambda m: f"up.{levels - 1 - int(m[1])}.upsample.", name)
    for new, original in _VAE.items():
        name = re.sub(rf"(?<![a-z_0-9]){re.escape(new)}(?![a-z_0-9])", original, name)
    return name


def _as_convolution(name: str, weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The VAE's attention was made of convolutions with a kernel of one pixel."""
    is_linear = ".attentions." in name and name.endswith(".weight") and weight.ndim == 2
    return weight[:, :, None, None] if is_linear else weight


def _levels(folder: Path) -> int:
    return len(json.loads((folder / "vae/config.json").read_text())["block_out_channels"])


def _open_clip(text: Weights) -> Weights:
    """Queries, keys and values are one matrix there, and the projection is applied from the other side."""
    weights: Weights = {}
    for name, weight in text.items():
        if name == "text_projection.weight":
            weights["text_projection"] = np.ascontiguousarray(weight.T)
        elif ".q_proj." in name:
            three = [text[name.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"]
            joined = name.replace(".q_proj.weight", ".in_proj_weight").replace(".q_proj.bias", ".in_proj_bias")
            weights[_open_clip_name(joined)] = np.concatenate(three)
        elif ".k_proj." not in name and ".v_proj." not in name:
            weights[_open_clip_name(name)] = weight
    return weights


def _open_clip_name(name: str) -> str:
    for new, original in _OPEN_CLIP.items():
        name = name.replace(new, original)
    return name
