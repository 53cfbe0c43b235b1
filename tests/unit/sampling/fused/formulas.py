"""What the kernels compute, in NumPy and float64, and random inputs for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

REST = np.uint32(0x7FC5EED5).view(np.float32)
"""The first value of a lane at rest (csrc/arguments.h)."""


def exact(values: list[Any]) -> list[Array]:
    return [np.asarray(np.asarray(each, np.float32), np.float64) for each in values]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def group_norm(x: Array, groups: int, epsilon: float, weight: Array, bias: Array) -> Array:
    grouped = x.reshape(x.shape[0], groups, -1)
    mean, variance = grouped.mean(-1, keepdims=True), grouped.var(-1, keepdims=True)
    normed = ((grouped - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)
    return normed * weight.reshape(1, -1, 1, 1) + bias.reshape(1, -1, 1, 1)


def layer_norm(x: Array, epsilon: float, weight: Array, bias: Array) -> Array:
    """Of tokens [L, P, C]."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * weight + bias


def convolve(x: Array, weight: Array, bias: Array, *, stride: int = 1, before: int = 1, after: int = 1) -> Array:
    """Of maps [L, C, H, W] with weights [O, C, 3, 3]."""
    x = np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))[:, :, ::stride, ::stride]
    return np.einsum("lchwyx,ocyx->lohw", windows, weight) + bias.reshape(1, -1, 1, 1)


def resnet(values: list[Any]) -> Array:
    """As at the top of csrc/resnet.cc."""
    x, settings, skip, time, g1, b1, w1, c1, wt, bt, g2, b2, w2, c2, ws, bs = exact(values)
    has_time, has_shortcut, has_skip = settings[4:]
    x = np.concatenate([x, skip], 1) if has_skip else x
    h = convolve(silu(group_norm(x, int(settings[0]), settings[2], g1, b1)), w1, c1)
    if has_time:
        h = h + (silu(time) @ wt.T + bt)[:, :, None, None]
    h = convolve(silu(group_norm(h, int(settings[1]), settings[3], g2, b2)), w2, c2)
    return h + (np.einsum("lchw,oc->lohw", x, ws[:, :, 0, 0]) + bs.reshape(1, -1, 1, 1) if has_shortcut else x)


def attention(q: Array, k: Array, v: Array, heads: int, scale: float) -> Array:
    """Of tokens [L, P, C]."""
    q, k, v = (each.reshape(*each.shape[:2], heads, -1).transpose(0, 2, 1, 3) for each in (q, k, v))
    scores = q @ k.transpose(0, 1, 3, 2) * scale
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    attended = weights / weights.sum(-1, keepdims=True) @ v
    return attended.transpose(0, 2, 1, 3).reshape(q.shape[0], q.shape[2], -1)


def transformer(values: list[Any]) -> Array:
    """As at the top of csrc/transformer.cc."""
    x, settings, text, gg, gb, w_in, b_in, *rest = exact(values)
    l1, q1, k1, v1, o1, l2, q2, k2, v2, o2, l3, up, down, w_out, b_out = (
        *(rest[0:2], *rest[2:5], rest[5:7], rest[7:9], *rest[9:12], rest[12:14]),
        *(rest[14:16], rest[16:18], rest[18:20], *rest[20:22]),
    )
    groups, group_epsilon, heads, epsilon, scale = settings
    lanes, channels, height, width = x.shape
    tokens = group_norm(x, int(groups), group_epsilon, gg, gb).reshape(lanes, channels, -1).transpose(0, 2, 1)
    h = tokens @ w_in.T + b_in
    n = layer_norm(h, epsilon, *l1)
    h = h + attention(n @ q1.T, n @ k1.T, n @ v1.T, int(heads), scale) @ o1[0].T + o1[1]
    n = layer_norm(h, epsilon, *l2)
    h = h + attention(n @ q2.T, text @ k2.T, text @ v2.T, int(heads), scale) @ o2[0].T + o2[1]
    a, b = np.split(layer_norm(h, epsilon, *l3) @ up[0].T + up[1], 2, -1)
    h = h + (a * gelu(b)) @ down[0].T + down[1]
    return x + (h @ w_out.T + b_out).transpose(0, 2, 1).reshape(lanes, channels, height, width)


def convolution(values: list[Any], kernel: str = "convolution") -> Array:
    """As at the top of csrc/convolution.cc."""
    x, (groups, epsilon), gain, shift, weight, bias = exact(values)
    if groups:
        x = silu(group_norm(x, int(groups), epsilon, gain, shift))
    if kernel == "upsample":
        x = x.repeat(2, 2).repeat(2, 3)
    before = 0 if kernel == "downsample_corner" else 1
    return convolve(x, weight, bias, stride=2 if kernel.startswith("downsample") else 1, before=before)


class Draw:
    """Random inputs of the kernels."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def normal(self, *shape: int, around: float = 0.0, scale: float = 1.0) -> Array:
        """Of any shape."""
        return (around + scale * self._random.standard_normal(shape)).astype(np.float32)

    def weight(self, *shape: int) -> Array:
        """Weights that keep the size of what they are applied to."""
        return self.normal(*shape, scale=1 / math.sqrt(math.prod(shape[1:])))

    def resnet(
        self, lanes: int, channels: tuple[int, int], outputs: int, size: tuple[int, int], groups: int, time: int = 32
    ) -> list[Any]:
        """``channels`` are those of x and of the skip connection; no time where that is 0."""
        joined = sum(channels)
        settings = [groups, groups, 1e-5, 1e-6, time > 0, joined != outputs, channels[1] > 0]
        norm1, norm2 = self.normal(joined, around=1, scale=0.3), self.normal(outputs, around=1, scale=0.3)
        return [
            *(self.normal(lanes, channels[0], *size), settings, self.normal(lanes, max(channels[1], 1), *size)),
            *(self.normal(lanes, max(time, 1)), norm1, self.normal(joined), self.weight(outputs, joined, 3, 3)),
            *(self.normal(outputs), self.weight(outputs, max(time, 1)), self.normal(outputs), norm2),
            *(self.normal(outputs), self.weight(outputs, outputs, 3, 3), self.normal(outputs)),
            *(self.weight(outputs, joined, 1, 1), self.normal(outputs)),
        ]

    def transformer(
        self, lanes: int, channels: int, size: tuple[int, int], groups: int, heads: int, text: tuple[int, int]
    ) -> list[Any]:
        """``text`` is the number of its tokens and their width."""
        square, hidden = (channels, channels), 4 * channels
        gain, shift = (lambda: self.normal(channels, around=1, scale=0.3)), (lambda: self.normal(channels, scale=0.3))
        return [
            *(self.normal(lanes, channels, *size), [groups, 1e-6, heads, 1e-5, (channels / heads) ** -0.5]),
            *(self.normal(lanes, *text), gain(), shift(), self.weight(*square), shift(), gain(), shift()),
            *(self.weight(*square), self.weight(*square), self.weight(*square), self.weight(*square), shift()),
            *(gain(), shift(), self.weight(*square), self.weight(channels, text[1]), self.weight(channels, text[1])),
            *(self.weight(*square), shift(), gain(), shift(), self.weight(2 * hidden, channels)),
            *(self.normal(2 * hidden, scale=0.3), self.weight(channels, hidden), shift(), self.weight(*square)),
            shift(),
        ]

    def convolution(
        self, lanes: int, channels: int, outputs: int, size: tuple[int, int], *, groups: int = 0
    ) -> list[Any]:
        """Of any of the kernels in csrc/convolution.cc."""
        return [
            *(self.normal(lanes, channels, *size), [groups, 1e-5], self.normal(channels, around=1)),
            *(self.normal(channels), self.weight(outputs, channels, 3, 3), self.normal(outputs)),
        ]
