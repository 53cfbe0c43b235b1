"""The floor that a step is compared with: its multiply-adds, counted from what the layers of a network see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
from mindspore import Tensor, mint, nn  # noqa: E402 - needs MindSpore

from benchmarks.floor import count_multiply_adds  # noqa: E402

pytestmark = [pytest.mark.mindspore, pytest.mark.usefixtures("cpu")]

BATCH, CHANNELS, SIDE, TOKENS, WIDTH = 2, 3, 4, 5, 6


class _Attention(nn.Cell):
    """The projections of mindone's ``Attention``, by whose names it is known."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q = mint.nn.Linear(CHANNELS, WIDTH)
        self.to_k = mint.nn.Linear(WIDTH, WIDTH)

    def construct(self, pixels: Any, text: Any) -> Any:
        return self.to_q(pixels), self.to_k(text)


class _Network(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.conv = mint.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.norm = mint.nn.GroupNorm(1, CHANNELS)
        self.attention = _Attention()

    def construct(self, x: Any, text: Any) -> Any:
        x = self.norm(self.conv(x))
        return self.attention(x.reshape(BATCH, CHANNELS, -1).swapaxes(1, 2), text)


def test_convolutions_projections_and_attention_are_counted_and_norms_are_not() -> None:
    """By hand: a 3x3 convolution, two projections, and q k^T with its product with v."""
    x = Tensor(np.zeros((BATCH, CHANNELS, SIDE, SIDE), np.float32))
    text = Tensor(np.zeros((BATCH, TOKENS, WIDTH), np.float32))
    pixels = BATCH * SIDE * SIDE
    convolution = pixels * CHANNELS * CHANNELS * 9
    projections = pixels * WIDTH * CHANNELS + BATCH * TOKENS * WIDTH * WIDTH
    attention = 2 * pixels * WIDTH * TOKENS
    assert count_multiply_adds(_Network(), (x, text)) == convolution + projections + attention
