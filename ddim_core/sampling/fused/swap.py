"""Puts fused cells into a loaded network wherever a guard allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from mindone.diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from mindone.diffusers.models.downsampling import Downsample2D
from mindone.diffusers.models.resnet import ResnetBlock2D
from mindone.diffusers.models.transformers.transformer_2d import Transformer2DModel
from mindone.diffusers.models.unets.unet_2d import UNet2DModel
from mindone.diffusers.models.unets.unet_2d_blocks import CrossAttnUpBlock2D, UpBlock2D
from mindone.diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from mindone.diffusers.models.upsampling import Upsample2D

from ddim_core.sampling.fused import cells, guards
from ddim_core.sampling.fused.operators import Operators, operators

_NETWORKS = (UNet2DConditionModel, UNet2DModel, AutoencoderKL)
_BLOCKS: dict[type, tuple[type, Callable[[Any], str]]] = {
    ResnetBlock2D: (cells.FusedResnet, guards.resnet_fault),
    Transformer2DModel: (cells.FusedTransformer, guards.transformer_fault),
    Upsample2D: (cells.FusedUpsample, guards.upsample_fault),
    Downsample2D: (cells.FusedDownsample, guards.downsample_fault),
}
_FUSED = (
    *(cells.FusedResnet, cells.FusedTransformer, cells.FusedUpsample, cells.FusedDownsample),
    *(cells.FusedConvolution, cells.FusedOutput, cells.FusedTime),
)


def fuse(network: Any) -> Any:
    """Return a loaded network with its blocks fused where that can be; others are returned as they are."""
    if isinstance(network, _NETWORKS) and (kernels := operators()) is not None:
        _fuse_blocks(network, kernels)
        for part in (network, getattr(network, "encoder", None), getattr(network, "decoder", None)):
            if part is not None and hasattr(part, "conv_in"):
                _fuse_ends(part, kernels)
        if isinstance(network, UNet2DConditionModel):
            _fuse_time(network, kernels)
        network.fused_whole = is_whole(network)
    return network


def is_whole(network: Any) -> bool:
    """Return whether fused kernels compute everything in a network that the lanes' maps go through."""
    if not isinstance(network, UNet2DConditionModel):
        return False
    config = network.config
    others = (config.class_embed_type, config.addition_embed_type, config.encoder_hid_dim_type)
    if config.center_input_sample or network.time_embed_act is not None or any(other is not None for other in others):
        return False
    if any(type(cell) in _BLOCKS for _, cell in network.cells_and_names()):
        return False
    return not set(_parameters(network)) - {p for cell in _fused_cells(network) for p in _parameters(cell)}


def _fused_cells(network: Any) -> Iterator[Any]:
    return (cell for _, cell in network.cells_and_names() if isinstance(cell, _FUSED))


def _parameters(cell: Any) -> Iterator[int]:
    return map(id, cell.get_parameters())


def _fuse_blocks(network: Any, kernels: Operators) -> None:
    for _, cell in list(network.cells_and_names()):
        fused, fault_of = _BLOCKS.get(type(cell), (None, None))
        if fused is not None and fault_of is not None and not fault_of(cell):
            _swap(cell, fused, kernels)
    for _, cell in network.cells_and_names():
        _fuse_up_block(cell)


def _fuse_up_block(cell: Any) -> None:
    fused = {CrossAttnUpBlock2D: cells.FusedCrossAttnUpBlock, UpBlock2D: cells.FusedUpBlock}.get(type(cell))
    if fused is None:
        return
    blocks = [*cell.resnets, *getattr(cell, "attentions", [])]
    if all(isinstance(block, _FUSED) for block in blocks):
        cell.__class__ = fused


def _fuse_ends(part: Any, kernels: Operators) -> None:
    """Fuse the first convolution of a network, and its last one with the norm and activation before it."""
    if not guards.convolution_fault(part.conv_in):
        _swap(part.conv_in, cells.FusedConvolution, kernels)
    if guards.convolution_fault(part.conv_out):
        return
    if guards.norm_fault(part.conv_norm_out) or not guards.is_silu(part.conv_act):
        _swap(part.conv_out, cells.FusedConvolution, kernels)
        return
    part.conv_out = cells.FusedOutput(part.conv_norm_out, part.conv_out, kernels)
    part.conv_norm_out, part.conv_act = cells.Unchanged(), cells.Unchanged()


def _fuse_time(network: Any, kernels: Operators) -> None:
    if network.config.time_embedding_type == "positional" and not guards.time_fault(
        network.time_proj, network.time_embedding
    ):
        network.time_embedding = cells.FusedTime(network.time_proj, network.time_embedding, kernels)
        network.time_proj = cells.AsColumn()


def _swap(cell: Any, fused: type, kernels: Operators) -> None:
    cell.__class__ = fused
    cell.prepare(kernels)
