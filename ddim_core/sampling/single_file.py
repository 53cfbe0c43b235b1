"""A single file of all weights, in the names of the original implementation, to a checkpoint folder.

The names are mapped by mindone, as its ``from_single_file`` does. That one would load the weights in one dtype and save
those numbers; here they stay as they are, bit by bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from mindone.diffusers.loaders import single_file_utils as mapping
from mindone.diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from mindone.diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from mindone.transformers import CLIPTextModel, CLIPTextModelWithProjection
from mindspore import Parameter

from ddim_core.checkpoints.files import read_json
from ddim_core.checkpoints.folder import configurations
from ddim_core.checkpoints.layout import INDEX
from ddim_core.checkpoints.tensors import FLOATS, tensors_of, write_tensors
from ddim_core.errors import CheckpointError
from ddim_core.sampling.models.networks import load_network

# Part of a folder -> its network and the stem of its weights' file.
_NETWORKS: Mapping[str, tuple[Any, str]] = {
    "unet": (UNet2DConditionModel, "diffusion_pytorch_model"),
    "vae": (AutoencoderKL, "diffusion_pytorch_model"),
    "text_encoder": (CLIPTextModel, "model"),
    "text_encoder_2": (CLIPTextModelWithProjection, "model"),
}
CONVERTIBLE = {
    "StableDiffusionPipeline": ("unet", "vae", "text_encoder"),
    "StableDiffusionXLPipeline": ("unet", "vae", "text_encoder", "text_encoder_2"),
}
"""Pipelines of which single files are published, and the parts that each of these holds."""
_BEGINNINGS = {
    "unet": (mapping.LDM_UNET_KEY,),
    "vae": tuple(mapping.LDM_VAE_KEYS),
    "text_encoder": (*mapping.LDM_CLIP_PREFIX_TO_REMOVE, "cond_stage_model.model."),
    "text_encoder_2": ("conditioner.embedders.1.model.",),
}
_PROJECTION = "text_projection.weight"

Weights = dict[str, Any]


class _Bits(np.ndarray[Any, np.dtype[Any]]):
    """A weight as mindone's mapping takes it, which is made for tensors; it only ever slices and transposes them."""

    def contiguous(self) -> _Bits:
        return np.ascontiguousarray(self).view(_Bits)


def convert(file: Path, like: Path, folder: Path) -> None:
    """Write the checkpoint whose weights a single file holds; each network is loaded once to see that none is missing.

    Args:
        file: Safetensors.
        like: A checkpoint of the same kind, which gives configurations and tokenizers.
        folder: Empty; ``model_index.json`` is the last that is written to it.

    Raises:
        CheckpointError: The file lacks a network, or does not fit ``like``.
    """
    layout = configurations(like)
    pipeline = read_json(like, INDEX)["_class_name"]
    if pipeline not in CONVERTIBLE:
        raise CheckpointError(f"a single file can become a {' or '.join(CONVERTIBLE)}, got {like}, a {pipeline}")
    for plain, path in layout.files.items():
        if plain != INDEX:
            (folder / plain).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(like / path, folder / plain)
    weights = _read(file)
    for part in CONVERTIBLE[pipeline]:
        network, stem = _NETWORKS[part]
        try:
            converted = _converted(part, weights, read_json(folder, f"{part}/config.json"), file)
            write_tensors(folder / part / f"{stem}.safetensors", {n: _bits(weight) for n, weight in converted.items()})
            load_network(network, folder / part, "float32")
        except CheckpointError as error:
            words = str(error).replace(str(folder), str(like))
            raise CheckpointError(f"{file} must fit {like}, got: {words}; give --like one of the same kind") from error
    shutil.copyfile(like / INDEX, folder / INDEX)


def _read(file: Path) -> Weights:
    places = tensors_of(file)
    return {name: place.bits(file).view(_Bits) for name, place in places.items() if place.dtype in FLOATS}


def _converted(part: str, weights: Weights, config: dict[str, Any], file: Path) -> Weights:
    """Return the weights of one network, under the names that its class has for them.

    Raises:
        CheckpointError: The file does not hold the network, or one of another form.
    """
    if not any(name.startswith(_BEGINNINGS[part]) for name in weights):
        raise CheckpointError(f"{file} holds no weights of a {part}, whose names begin with {_BEGINNINGS[part][0]}")
    try:
        if part == "unet":
            converted = mapping.convert_ldm_unet_checkpoint(weights, config)
        elif part == "vae":
            converted = mapping.convert_ldm_vae_checkpoint(weights, config)
        else:
            converted = _text_encoder(part, weights, config)
    except (KeyError, IndexError, AttributeError, ValueError, TypeError) as error:  # as it comes up in the mapping
        raise CheckpointError(f"the weights of its {part} have another form: {error!r:.200}") from error
    if part == "text_encoder":  # a CLIPTextModel has none, whatever it was trained with
        converted.pop(_PROJECTION, None)
    return dict(converted)


def _text_encoder(part: str, weights: Weights, config: dict[str, Any]) -> Weights:
    if part == "text_encoder" and not mapping.is_open_clip_model(weights):
        return dict(mapping.convert_ldm_clip_checkpoint(weights))
    prefix = "conditioner.embedders.1.model." if part == "text_encoder_2" else "cond_stage_model.model."
    network = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
    return dict(mapping.convert_open_clip_checkpoint(network, weights, prefix=prefix))


def _bits(weight: Any) -> np.ndarray[Any, np.dtype[Any]]:
    return weight.asnumpy() if isinstance(weight, Parameter) else np.asarray(weight)
