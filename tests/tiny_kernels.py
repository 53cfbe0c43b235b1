"""Stand-ins for kernels that MindSpore's CPU device lacks, so that more of mindone's pipelines can be tried on it.

They are slow and for tests alone; what workers need of that kind is in ``ddim_core.sampling.cpu_kernels``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np


def _repeat_interleave(x: Any, repeats: int, dim: int | None = None, output_size: int | None = None) -> Any:
    return np.repeat(x, repeats, dim)


def _norm(x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return np.linalg.norm(x, ord, tuple(dim) if isinstance(dim, list) else dim, keepdim)


def _tile(x: Any, *repeats: Any) -> Any:
    return np.tile(x, repeats if isinstance(repeats[0], int) else repeats[0])


def _adaptive_pool(x: Any, size: Any) -> Any:
    for axis, out in ((2, size[0]), (3, size[1])):
        whole = x.shape[axis]
        ranges = [np.arange(i * whole // out, -(-(i + 1) * whole // out)) for i in range(out)]
        x = np.stack([x.take(each, axis).mean(axis) for each in ranges], axis)
    return x


def _argmin(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    return x.argmin(dim, keepdims=keepdim)


def _average_pool(x: Any, size: Any, stride: Any, *_: Any) -> Any:
    k = size if isinstance(size, int) else size[0]
    assert stride in {k, (k, k)}
    batch, channels, height, width = x.shape
    return x.reshape(batch, channels, height // k, k, width // k, k).mean(axis=(3, 5))


def _full(size: Any, value: float, dtype: Any = None) -> Any:
    import mindspore as ms

    return np.full(tuple(size), value, np.float32 if dtype is None else ms.dtype_to_nptype(dtype))


def _cumsum(x: Any, dim: int, dtype: Any = None) -> Any:
    return np.cumsum(x, dim, dtype=x.dtype)


def _linspace(start: float, end: float, steps: int, dtype: Any = None) -> Any:
    return np.linspace(start, end, steps, dtype=np.float32)


def _normal(shape: Any, *_: Any) -> Any:
    return np.random.default_rng(11).standard_normal(shape)


def _normal_like(x: Any, *_: Any) -> Any:
    return _normal(x.shape)


def _uniform(x: Any, low: float, high: float, *_: Any) -> Any:
    return np.random.default_rng(11).uniform(low, high, x.shape)


_WITH_NUMPY: Mapping[str, Callable[..., Any]] = {
    "AdaptiveAvgPool2DExt": _adaptive_pool,
    "ArgMinExt": _argmin,
    "AvgPool2D": _average_pool,
    "Clone": np.copy,
    "CumsumExt": _cumsum,
    "FillScalar": _full,
    "LinSpaceExt": _linspace,
    "LinalgVectorNorm": _norm,
    "Mm": np.matmul,
    "Randn": _normal,
    "RandnLike": _normal_like,
    "RepeatInterleaveInt": _repeat_interleave,
    "Tensor.repeat": _tile,
    "UniformExt": _uniform,
    "einsum": np.einsum,
}


def _zero(x: Any) -> Any:
    import mindspore as ms

    return x.assign_value(ms.Tensor(np.zeros(x.shape), x.dtype))


def _leave(x: Any, *_: Any) -> Any:
    """Draw no weights: the networks get theirs afterwards."""
    return x


def _resize(mode: str) -> Callable[..., Any]:
    def resize(x: Any, size: Any = None, scales: Any = None, align_corners: bool = False) -> Any:
        from mindspore import ops

        return ops.interpolate(x, tuple(size), mode=mode, align_corners=align_corners)

    return resize


def _conv3d(  # noqa: PLR0917 - as the kernel
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    from mindspore import ops

    return ops.conv3d(x, weight, bias, stride, "pad", padding, dilation, groups)


def _scatter(x: Any, dim: int, index: Any, value: float) -> Any:
    import mindspore as ms

    values = x.asnumpy()
    np.put_along_axis(values, index.asnumpy(), value, dim)
    return x.assign_value(ms.Tensor(values))


def _clamp(x: Any, low: float, high: float) -> Any:
    import mindspore as ms

    return x.assign_value(ms.Tensor(x.asnumpy().clip(low, high)))


def _attend(query: Any, key: Any, value: Any, *others: Any) -> Any:
    """Attend in float64; the layouts BNSD, and BSH with one head."""
    import mindspore as ms

    assert all(each is None for each in others), "no mask or bias"
    q, k, v = (each.asnumpy().astype(np.float64) for each in (query, key, value))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return None, None, None, ms.Tensor(weights / weights.sum(axis=-1, keepdims=True) @ v, query.dtype)


def _fill(x: Any, value: float) -> Any:
    import mindspore as ms

    return x.assign_value(ms.Tensor(np.full(x.shape, value), x.dtype))


_WITH_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "Conv3DExt": _conv3d,
    "FlashAttentionScore": _attend,
    "InplaceClampScalar": _clamp,
    "InplaceFillScalar": _fill,
    "InplaceNormal": _leave,
    "InplaceScatterValue": _scatter,
    "InplaceZero": _zero,
    "UpsampleBicubic2D": _resize("bicubic"),
    "UpsampleBilinear2D": _resize("bilinear"),
}
_METHODS = {
    "Clone": "clone",
    "InplaceFillScalar": "fill_",
    "InplaceScatterValue": "scatter_",
    "Tensor.repeat": "repeat",
}
"""What is called as a method of a tensor, past the class of its primitive."""


@contextmanager
def stand_ins() -> Iterator[set[str]]:
    """Put all stand-ins in place for a while; what it gives fills with the names of the kernels that were asked for."""
    import mindspore as ms
    from mindspore.ops.auto_generate import gen_ops_prim

    used: set[str] = set()
    with ExitStack() as stack:
        for name in (*_WITH_NUMPY, *_WITH_OPERATORS):
            if hasattr(gen_ops_prim, name):
                primitive = getattr(gen_ops_prim, name)
                stack.enter_context(mock.patch.object(primitive, "__call__", _called(name, used, 1)))
        for name, method in _METHODS.items():
            stack.enter_context(mock.patch.object(ms.Tensor, method, _called(name, used, 0), create=True))
        stack.enter_context(mock.patch.object(ms.mint, "einsum", _called("einsum", used, 0)))
        stack.enter_context(mock.patch.object(ms.mint, "baddbmm", _masked(ms.mint.baddbmm, used)))
        yield used


def _masked(baddbmm: Callable[..., Any], used: set[str]) -> Callable[..., Any]:
    """Return baddbmm for masks with an axis of heads, which mindone's attention gives it where it has no kernel."""

    def call(mask: Any, *others: Any, **options: Any) -> Any:
        if mask.ndim > 3:
            used.add("FlashAttentionScore")
            mask = mask.reshape(-1, *mask.shape[2:])
        return baddbmm(mask, *others, **options)

    return call


def _called(name: str, used: set[str], skipped: int) -> Callable[..., Any]:
    """Return a stand-in as a method that notes its name; ``skipped`` arguments before the kernel's own."""
    import mindspore as ms

    def call(*args: Any, **options: Any) -> Any:
        used.add(name)
        if name in _WITH_OPERATORS:
            return _WITH_OPERATORS[name](*args[skipped:], **options)
        given = [each.asnumpy() if isinstance(each, ms.Tensor) else each for each in args[skipped:]]
        result = np.asarray(_WITH_NUMPY[name](*given, **options))
        return ms.Tensor(result.astype(np.float32) if result.dtype == np.float64 else result)

    return call
