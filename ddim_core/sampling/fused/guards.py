"""Which of mindone's blocks the fused kernels can stand for: each guard returns why not, or an empty string.

A block that is not as its kernel computes keeps MindSpore's kernels. Shapes need no guard: the kernels take any.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mindspore as ms
from mindone.diffusers.models import activations, attention, attention_processor
from mindspore import mint

# Rows of weights that a kernel reads in vectors.
_ROW = 16
_PROCESSORS = (attention_processor.AttnProcessor, attention_processor.AttnProcessor2_0)


def resnet_fault(block: Any) -> str:
    """Of a ``ResnetBlock2D``, for ``csrc/resnet.cc``."""
    return _first(_resnet_faults(block))


def transformer_fault(block: Any) -> str:
    """Of a ``Transformer2DModel``, for ``csrc/transformer.cc``."""
    return _first(_transformer_faults(block))


def upsample_fault(block: Any) -> str:
    """Of an ``Upsample2D``, for ``csrc/convolution.cc``."""
    return _first(_upsample_faults(block))


def downsample_fault(block: Any) -> str:
    """Of a ``Downsample2D``, for ``csrc/convolution.cc``."""
    return _first(_downsample_faults(block))


def convolution_fault(conv: Any, *, stride: int = 1, padding: int = 1) -> str:
    """Of a 3x3 ``mint.nn.Conv2d``, for ``csrc/convolution.cc``."""
    return _first(_convolution_faults(conv, 3, stride=stride, padding=padding))


def norm_fault(norm: Any) -> str:
    """Of a ``mint.nn.GroupNorm`` that SiLU follows."""
    return _first(_norm_faults(norm))


def time_fault(sinusoids: Any, embedding: Any) -> str:
    """Of ``Timesteps`` and ``TimestepEmbedding``, for ``csrc/time_embedding.cc``."""
    return _first(_time_faults(sinusoids, embedding))


def is_silu(activation: Any) -> bool:
    """Return whether an activation is SiLU in float32."""
    return type(activation) is mint.nn.SiLU


def _first(faults: Iterator[str]) -> str:
    return next(faults, "")


def _resnet_faults(block: Any) -> Iterator[str]:
    if block.upsample is not None or block.downsample is not None:
        yield "it resamples"
    # A VAE's decoder says "group" and has no time.
    plain = ("default",) if block.time_emb_proj is not None else ("default", "group")
    if block.time_embedding_norm not in plain or block.skip_time_act:
        yield "its time embedding is no plain shift"
    if block.output_scale_factor != 1.0:
        yield "it scales its output"
    if not is_silu(block.nonlinearity):
        yield "its activation is not SiLU"
    yield from _norm_faults(block.norm1)
    yield from _norm_faults(block.norm2)
    yield from _convolution_faults(block.conv1, 3)
    yield from _convolution_faults(block.conv2, 3)
    if block.conv1.weight.shape[0] != block.conv2.weight.shape[0]:
        yield "its convolutions have different outputs"
    if block.conv_shortcut is not None:
        yield from _convolution_faults(block.conv_shortcut, 1, padding=0)
    elif block.conv1.weight.shape[1] != block.conv2.weight.shape[0]:
        yield "it has no shortcut"
    if block.time_emb_proj is not None:
        yield from _linear_faults(block.time_emb_proj, bias=True)


def _transformer_faults(block: Any) -> Iterator[str]:
    if not block.is_input_continuous or len(block.transformer_blocks) != 1:
        yield "it is not one block on a map"
        return
    channels = block.norm.weight.shape[0]
    yield from _norm_faults(block.norm)
    for projection in (block.proj_in, block.proj_out):
        if tuple(projection.weight.shape[:2]) != (channels, channels):
            yield "its width is not that of its input"
        if isinstance(projection, mint.nn.Conv2d):
            yield from _convolution_faults(projection, 1, padding=0)
        else:
            yield from _linear_faults(projection, bias=True, rows=1)
    yield from _block_faults(block.transformer_blocks[0])


def _block_faults(block: Any) -> Iterator[str]:
    if type(block) is not attention.BasicTransformerBlock or block.norm_type != "layer_norm":
        yield "its norms depend on the time"
        return
    if block.pos_embed is not None or hasattr(block, "fuser") or block.only_cross_attention:
        yield "its attention has more parts"
    if block.attn2 is None or not block.attn2.is_cross_attention or block.attn1.is_cross_attention:
        yield "it is not self-attention, then cross-attention"
        return
    for norm in (block.norm1, block.norm2, block.norm3):
        if not isinstance(norm, mint.nn.LayerNorm) or norm.weight is None or norm.bias is None:
            yield "a norm has no weights"
        elif norm.weight.dtype != ms.float32 or norm.eps != block.norm1.eps:
            yield "its norms differ"
    yield from _attention_faults(block.attn1)
    yield from _attention_faults(block.attn2)
    if block.attn1.heads != block.attn2.heads or block.attn1.scale != block.attn2.scale:
        yield "its attentions differ"
    yield from _feed_forward_faults(block.ff)


def _attention_faults(attn: Any) -> Iterator[str]:
    if type(attn.processor) not in _PROCESSORS:
        yield "its attention has a processor of its own"
    parts = ("group_norm", "spatial_norm", "norm_q", "norm_k", "norm_cross", "add_k_proj")
    if any(getattr(attn, part, None) is not None for part in parts) or attn.is_causal:
        yield "its attention has more parts"
    if attn.residual_connection or attn.rescale_output_factor != 1.0 or attn.fused_projections:
        yield "its attention has another output"
    if len({attn.to_q.weight.shape, (attn.inner_dim, attn.query_dim), attn.to_out[0].weight.shape}) != 1:
        yield "its attention has another width"
    for projection in (attn.to_q, attn.to_k, attn.to_v):
        yield from _linear_faults(projection, bias=False, rows=1)
    yield from _linear_faults(attn.to_out[0], bias=True, rows=1)


def _feed_forward_faults(forward: Any) -> Iterator[str]:
    if type(forward.net[0]) is not activations.GEGLU or len(forward.net) != 3:
        yield "its feed-forward is not GEGLU"
        return
    yield from _linear_faults(forward.net[0].proj, bias=True, rows=1)
    yield from _linear_faults(forward.net[2], bias=True, rows=1)


def _upsample_faults(block: Any) -> Iterator[str]:
    if block.norm is not None or block.use_conv_transpose or not block.use_conv or not block.interpolate:
        yield "it is not nearest pixels and a convolution"
        return
    yield from _convolution_faults(block.conv if block.name == "conv" else block.Conv2d_0, 3)


def _downsample_faults(block: Any) -> Iterator[str]:
    if block.norm is not None or not block.use_conv or block.padding not in (0, 1):
        yield "it is not a convolution"
        return
    yield from _convolution_faults(block.conv, 3, stride=2, padding=block.padding)


def _convolution_faults(conv: Any, size: int, *, stride: int = 1, padding: int = 1) -> Iterator[str]:
    if type(conv) is not mint.nn.Conv2d:
        yield "its convolution is of another class"
        return
    expected = ((size, size), (stride, stride), (padding, padding), (1, 1), 1)
    if (*map(_pair, (conv.kernel_size, conv.stride, conv.padding, conv.dilation)), conv.groups) != expected:
        yield f"its convolution is not {size}x{size} with stride {stride} and padding {padding}"
    if conv.bias is None:
        yield "its convolution has no bias"
    if conv.weight.dtype != ms.float32:
        yield "it is not in float32"


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _norm_faults(norm: Any) -> Iterator[str]:
    if not isinstance(norm, mint.nn.GroupNorm) or norm.weight is None or norm.bias is None:
        yield "its norm is no group norm with weights"
    elif norm.weight.dtype != ms.float32:
        yield "it is not in float32"


def _linear_faults(linear: Any, *, bias: bool, rows: int = _ROW) -> Iterator[str]:
    if not isinstance(linear, mint.nn.Linear) or (linear.bias is not None) != bias:
        yield "a linear layer is of another class"
        return
    if linear.weight.dtype != ms.float32:
        yield "it is not in float32"
    if linear.weight.shape[1] % rows:
        yield f"a linear layer's inputs are no multiple of {rows}"


def _time_faults(sinusoids: Any, embedding: Any) -> Iterator[str]:
    if sinusoids.scale != 1 or sinusoids.num_channels % _ROW:
        yield "its sinusoids are scaled, or no multiple of 16"
    if embedding.cond_proj is not None or embedding.post_act is not None or not is_silu(embedding.act):
        yield "its time embedding has more parts"
    yield from _linear_faults(embedding.linear_1, bias=True)
    yield from _linear_faults(embedding.linear_2, bias=True)
    if embedding.linear_2.weight.shape[0] % _ROW:
        yield "its time embedding is no multiple of 16"
