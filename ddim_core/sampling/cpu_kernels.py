"""Twins for ``mindspore.mint`` functions that have no kernel on the CPU, or a bad one, so that mindone's models run.

mindone builds its models from ``mindspore.mint``, which is made for Ascend; on the CPU many of its functions end in
"The kernel X unregistered" at the first use of their result. The older ``mindspore.ops`` has kernels for the same.
``install`` puts those in place of what UNet2DConditionModel, UNet2DModel, DiTTransformer2DModel, AutoencoderKL, CLIP's
text encoders and their pipelines call. No other module of this package knows that the CPU differs.

The float32 kernels of exp, log, sigmoid and tanh are approximations, off by up to 5e-6, 4e-5, 8e-6 and 1e-4 of their
value; their float64 kernels are right, so the twins go through float64. Where that would cost a step more than a
fiftieth of its time the approximation stays (SiLU, softmax, GELU by erf): docs/models.md says how far off it is.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mindspore as ms
from mindspore import mint, ops
from mindspore.ops.auto_generate import gen_ops_def, gen_ops_prim
from mindspore.ops.auto_generate.gen_ops_def import exp, log, sigmoid, tanh  # before they are replaced

from ddim_core.errors import HostError

Kernel = Callable[..., Any]
Pair = tuple[int, int]

# Of the approximated GELU, -2 sqrt(2 / pi) and that times 0.044715; as tensors, because a Python float becomes float32.
_GELU_LINEAR = ms.Tensor(-2 * math.sqrt(2 / math.pi), ms.float64)
_GELU_CUBIC = ms.Tensor(-2 * math.sqrt(2 / math.pi) * 0.044715, ms.float64)


def install() -> None:
    """Replace what ``mint`` lacks on the CPU; does nothing on other devices and on a second call.

    Call it after ``mindspore.set_device`` and before anything imports mindone: what was built from the old function
    keeps it.

    Raises:
        HostError: mindone was imported first.
    """
    if ms.get_context("device_target") == "CPU":
        _install_once()


@functools.cache
def _install_once() -> None:
    if "mindone" in sys.modules:
        raise HostError("the CPU kernels must be installed before mindone is imported, got mindone already imported")
    _replace_everywhere(_twins())
    from mindone.diffusers.models import activations, normalization
    from mindone.diffusers.models.transformers import dit_transformer_2d

    # Compiled, ``Tensor.chunk`` becomes the primitive Chunk whatever ``mint.chunk`` is: its callers must be replaced.
    activations.GEGLU.construct = _geglu
    normalization.AdaLayerNormZero.construct = _ada_layer_norm_zero
    dit_transformer_2d.DiTTransformer2DModel.construct = _dit


def _replace_everywhere(twins: Mapping[Kernel, Kernel]) -> None:
    """Replace each function by its twin in every module of MindSpore that holds it under any name."""
    by_id = {id(lacking): twin for lacking, twin in twins.items()}
    for name, module in list(sys.modules.items()):
        if module is None or name.split(".")[0] != "mindspore":
            continue
        for attribute, value in list(vars(module).items()):
            if id(value) in by_id:
                setattr(module, attribute, by_id[id(value)])


def _twins() -> dict[Kernel, Kernel]:
    functional = mint.nn.functional
    return {
        mint.arange: _arange,
        mint.baddbmm: _baddbmm,
        mint.chunk: _chunk,
        mint.index_select: _index_select,
        mint.ones_like: _ones_like,
        mint.outer: _outer,
        mint.sort: _sort,
        mint.split: _split,
        mint.stack: _stack,
        mint.zeros_like: _zeros_like,
        functional.conv2d: _conv2d,
        functional.embedding: _embedding,
        functional.gelu: _gelu,
        functional.layer_norm: _layer_norm,
        functional.pad: _pad,
        gen_ops_def.exp: _exp,
        gen_ops_def.log: _log,
        gen_ops_def.sigmoid: _sigmoid,
        gen_ops_def.silu: _silu,
        gen_ops_def.tanh: _tanh,
        gen_ops_prim.conv2d_ext_op: _conv2d,
        gen_ops_prim.conv2d_padding_op: _conv2d,
    }


def _arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None) -> Any:
    return ops.arange(start, end, step, dtype=dtype)


def _baddbmm(input: Any, batch1: Any, batch2: Any, *, beta: float = 1, alpha: float = 1) -> Any:
    return ops.mul(input, beta) + ops.mul(ops.bmm(batch1, batch2), alpha)


def _chunk(input: Any, chunks: int, dim: int = 0) -> Any:
    return ops.chunk(input, chunks, dim)


def _index_select(input: Any, dim: int, index: Any) -> Any:
    return ops.gather(input, index, dim)


def _sort(input: Any, *, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    return ops.sort(input, axis=dim, descending=descending)


def _ones_like(input: Any, *, dtype: Any = None) -> Any:
    return ops.ones_like(input, dtype=dtype)


def _outer(input: Any, vec2: Any) -> Any:
    return ops.expand_dims(input, 1) * vec2


def _split(tensor: Any, split_size_or_sections: int | Sequence[int], dim: int = 0) -> Any:
    return ops.split(tensor, split_size_or_sections, dim)


def _stack(tensors: Any, dim: int = 0) -> Any:
    return ops.stack(tensors, axis=dim)


def _zeros_like(input: Any, *, dtype: Any = None) -> Any:
    return ops.zeros_like(input, dtype=dtype)


def _embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
) -> Any:
    """Look rows up; the options that mindone's models leave alone change nothing but gradients and ``max_norm``."""
    return ops.gather(weight, input, 0)


def _exp(input: Any) -> Any:
    return exp(input.astype(ms.float64)).astype(_float_of(input))


def _log(input: Any) -> Any:
    return log(input.astype(ms.float64)).astype(_float_of(input))


def _sigmoid(input: Any) -> Any:
    return sigmoid(input.astype(ms.float64)).astype(_float_of(input))


def _tanh(input: Any) -> Any:
    return tanh(input.astype(ms.float64)).astype(_float_of(input))


def _float_of(input: Any) -> Any:
    return input.dtype if input.is_floating_point() else ms.float32


def _gelu(input: Any, *, approximate: str = "none") -> Any:
    if approximate == "none":
        return ops.gelu(input, approximate)
    # x (1 + tanh u) / 2 is x / (1 + exp(-2 u)): the kernel of tanh is wrong, and so is a sum of two that cancel.
    x = input.astype(ms.float64)
    return (x / (1.0 + exp(x * (_GELU_LINEAR + _GELU_CUBIC * x * x)))).astype(input.dtype)


def _silu(input: Any) -> Any:
    # SiLU and Sigmoid have kernels, but one NaN anywhere in their input changes the last bits of all other values: a
    # sample that fails would change its neighbours. Maximum with a number turns NaN into that number, the product gives
    # NaN again, and below -88 a sigmoid is 0 in float32. Half the time of input / (1 + exp(-input)), with equal error.
    return input * sigmoid(ops.maximum(input, -88.0))


def _layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    axis = input.ndim - len(normalized_shape)
    weight = ops.ones(normalized_shape, input.dtype) if weight is None else weight
    bias = ops.zeros(normalized_shape, input.dtype) if bias is None else bias
    return ops.LayerNorm(axis, axis, eps)(input, weight, bias)[0]


def _pad(input: Any, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    return ops.pad(input, pad, mode, value)


def _conv2d(  # noqa: PLR0913, PLR0917
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Any:
    if isinstance(padding, str):
        return ops.conv2d(input, weight, bias, stride, padding, 0, dilation, groups)
    return ops.conv2d(input, weight, bias, stride, "pad", padding, dilation, groups)


def _geglu(self: Any, hidden_states: Any) -> Any:
    """GEGLU (https://arxiv.org/abs/2002.05202): project, halve the last axis, gate one half with the other."""
    hidden, gate = ops.chunk(self.proj(hidden_states), 2, -1)
    return hidden * self.gelu(gate)


def _ada_layer_norm_zero(
    self: Any, x: Any, timestep: Any = None, class_labels: Any = None, hidden_dtype: Any = None, emb: Any = None
) -> Any:
    """adaLN-Zero of DiT (https://arxiv.org/abs/2212.09748): a norm whose shift, scale and gates follow from t and c."""
    if self.emb is not None:
        emb = self.emb(timestep, class_labels, hidden_dtype=hidden_dtype)
    shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = ops.chunk(self.linear(self.silu(emb)), 6, 1)
    x = self.norm(x) * (1 + ops.expand_dims(scale, 1)) + ops.expand_dims(shift, 1)
    return x, gate, shift_mlp, scale_mlp, gate_mlp


def _dit(
    self: Any,
    hidden_states: Any,
    timestep: Any = None,
    class_labels: Any = None,
    cross_attention_kwargs: Any = None,
    return_dict: bool = False,
) -> Any:
    """DiT: patches, blocks, a last adaptive norm, and patches back to pixels; always returns a tuple."""
    hidden = self.pos_embed(hidden_states)
    for block in self.transformer_blocks:
        hidden = block(hidden, timestep=timestep, class_labels=class_labels)
    condition = self.transformer_blocks[0].norm1.emb(timestep, class_labels, hidden_dtype=hidden.dtype)
    shift, scale = ops.chunk(self.proj_out_1(mint.nn.functional.silu(condition)), 2, 1)
    hidden = self.norm_out(hidden) * (1 + ops.expand_dims(scale, 1)) + ops.expand_dims(shift, 1)
    side, patch, channels = int(hidden.shape[1] ** 0.5), self.patch_size, self.out_channels
    patches = self.proj_out_2(hidden).reshape(-1, side, side, patch, patch, channels)
    return (ops.transpose(patches, (0, 5, 1, 3, 2, 4)).reshape(-1, channels, side * patch, side * patch),)
