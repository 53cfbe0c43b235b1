"""Kernels that the documents say MindSpore's CPU device lacks: it still does, and the stand-ins of the tests work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from tests.reference.test_pipelines_take_ours import TABLE, lacking
from tests.tiny_kernels import stand_ins

ms = pytest.importorskip("mindspore")
pytestmark = [pytest.mark.mindspore, pytest.mark.slow, pytest.mark.usefixtures("cpu")]


def numbers(*shape: int) -> Any:
    return ms.Tensor(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


def _attention() -> Any:
    from mindspore.ops.operations.nn_ops import FlashAttentionScore

    x = numbers(1, 2, 3, 4)
    return FlashAttentionScore(head_num=2, scale_value=0.5, input_layout="BNSD")(x, x, x)[3]


def _resized(mode: str) -> Callable[[], Any]:
    return lambda: ms.mint.nn.functional.interpolate(numbers(1, 1, 2, 2), size=(4, 4), mode=mode)


CALLS: Mapping[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "AdaptiveAvgPool2DExt": (
        lambda: ms.mint.nn.functional.adaptive_avg_pool2d(numbers(1, 1, 4, 4), (3, 2)),
        (1, 1, 3, 2),
    ),
    "ArgMinExt": (lambda: ms.mint.argmin(numbers(2, 3), dim=1), (2,)),
    "AvgPool2D": (lambda: ms.mint.nn.functional.avg_pool2d(numbers(1, 1, 4, 4), 2), (1, 1, 2, 2)),
    "Clone": (lambda: numbers(2).clone(), (2,)),
    "Conv3DExt": (lambda: ms.mint.nn.Conv3d(1, 1, 1)(numbers(1, 1, 2, 2, 2)), (1, 1, 2, 2, 2)),
    "CumsumExt": (lambda: ms.mint.cumsum(numbers(3), 0), (3,)),
    "FlashAttentionScore": (_attention, (1, 2, 3, 4)),
    "InplaceScatterValue": (lambda: numbers(3).scatter_(0, ms.Tensor([1]), 1), (3,)),
    "InplaceZero": (lambda: numbers(3).zero_(), (3,)),
    "LinSpaceExt": (lambda: ms.mint.linspace(0, 1, 3), (3,)),
    "LinalgVectorNorm": (lambda: ms.mint.norm(numbers(2, 3), dim=1, keepdim=True), (2, 1)),
    "Mm": (lambda: ms.mint.mm(numbers(2, 3), numbers(3, 2)), (2, 2)),
    "RandnLike": (lambda: ms.mint.randn_like(numbers(2)), (2,)),
    "RepeatInterleaveInt": (lambda: numbers(2, 1).repeat_interleave(2, dim=0, output_size=4), (4, 1)),
    "Tensor.repeat": (lambda: numbers(2).repeat(2, 1), (2, 2)),
    "UpsampleBicubic2D": (_resized("bicubic"), (1, 1, 4, 4)),
    "UpsampleBilinear2D": (_resized("bilinear"), (1, 1, 4, 4)),
    "einsum": (lambda: ms.mint.einsum("ab->ba", numbers(2, 3)), (3, 2)),
}


def test_every_kernel_that_the_document_names_is_tried_here() -> None:
    """So that a name in the table is that of something which is missing."""
    assert set(CALLS) == {name for pipeline in TABLE for name in lacking(pipeline)}


@pytest.mark.parametrize("name", CALLS)
def test_the_cpu_lacks_a_kernel_and_the_stand_in_has_it(name: str) -> None:
    """A version of MindSpore that brings the kernel makes the remark, and the stand-in, unnecessary."""
    call, shape = CALLS[name]
    with pytest.raises((RuntimeError, NotImplementedError), match=r"unregistered|not supported|only supports"):
        call().asnumpy()
    with stand_ins() as used:
        assert call().shape == shape
    assert used == {name}
