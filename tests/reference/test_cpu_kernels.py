"""Every twin that stands in for a ``mint`` function on the CPU, eager and compiled, against NumPy."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
from mindspore import mint  # noqa: E402 - needs MindSpore

pytestmark = [pytest.mark.mindspore, pytest.mark.usefixtures("cpu")]

Array = np.ndarray[Any, Any]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 6, 5)).astype(np.float32)
SEQUENCE = RNG.standard_normal((2, 3, 8)).astype(np.float32)
OTHER = RNG.standard_normal((2, 8, 3)).astype(np.float32)
SQUARE = RNG.standard_normal((2, 3, 3)).astype(np.float32)
KERNEL = RNG.standard_normal((6, 4, 3, 3)).astype(np.float32)
GROUPED_KERNEL = RNG.standard_normal((6, 2, 3, 3)).astype(np.float32)
BIAS = RNG.standard_normal(6).astype(np.float32)
WEIGHT = RNG.standard_normal(8).astype(np.float32)
TABLE = RNG.standard_normal((10, 8)).astype(np.float32)
IDS = np.array([[1, 9, 0], [3, 3, 2]], np.int32)

# float32 sums of up to 36 products, in another order than NumPy's float64.
TOLERANCE = 1e-5


def arange(start: Any) -> Any:
    return start + mint.arange(0, 8, 2, dtype=ms.float32)


def arange_of_one_argument(start: Any) -> Any:
    return start + mint.arange(4)


def baddbmm(square: Any, sequence: Any, other: Any) -> Any:
    return mint.baddbmm(square, sequence, other, beta=0.5, alpha=0.25)


def chunk(x: Any) -> Any:
    return mint.chunk(x, 2, dim=-1)[1]


def split_in_equal_parts(x: Any) -> Any:
    return mint.split(x, 4, dim=2)[1]


def split_in_given_sizes(x: Any) -> Any:
    return mint.split(x, (3, 5), dim=-1)[1]


def stack(a: Any, b: Any) -> Any:
    return mint.stack([a, b], dim=1)


def index_select(x: Any, ids: Any) -> Any:
    return mint.index_select(x, 1, ids[1])


def sort(x: Any) -> Any:
    return mint.sort(x, dim=1, descending=True)[0]


def outer(ids: Any, weight: Any) -> Any:
    return mint.outer(ids[0], weight)


def ones_like(x: Any) -> Any:
    return mint.ones_like(x)


def zeros_like(x: Any) -> Any:
    return mint.zeros_like(x)


def embedding(ids: Any, table: Any) -> Any:
    return mint.nn.functional.embedding(ids, table)


def gelu(x: Any) -> Any:
    return mint.nn.functional.gelu(x)


def gelu_by_tanh(x: Any) -> Any:
    return mint.nn.functional.gelu(x, approximate="tanh")


def silu(x: Any) -> Any:
    return mint.nn.functional.silu(x)


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    return mint.nn.functional.layer_norm(x, (8,), weight, bias, 1e-3)


def layer_norm_without_weights(x: Any) -> Any:
    return mint.nn.functional.layer_norm(x, (3, 8))


def pad(x: Any) -> Any:
    return mint.nn.functional.pad(x, (0, 1, 2, 3), mode="constant", value=7.0)


def conv2d(x: Any, kernel: Any, bias: Any) -> Any:
    return mint.nn.functional.conv2d(x, kernel, bias, stride=2, padding=1)


def conv2d_with_pairs(x: Any, kernel: Any) -> Any:
    return mint.nn.functional.conv2d(x, kernel, stride=(1, 2), padding=(2, 1), dilation=(1, 2))


def conv2d_of_groups(x: Any, kernel: Any, bias: Any) -> Any:
    return mint.nn.functional.conv2d(x, kernel, bias, groups=2)


def conv2d_same(x: Any, kernel: Any) -> Any:
    return mint.nn.functional.conv2d(x, kernel, padding="same")


def numpy_norm(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def numpy_gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def numpy_conv(  # noqa: PLR0917 - those of a convolution
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Array:
    """The definition of a convolution, one output pixel at a time."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2)).astype(np.float64)
    reach = [dilation[axis] * (kernel.shape[2 + axis] - 1) + 1 for axis in (0, 1)]
    size = [(x.shape[2 + axis] - reach[axis]) // stride[axis] + 1 for axis in (0, 1)]
    out = np.zeros((x.shape[0], kernel.shape[0], *size))
    per_group = kernel.shape[0] // groups
    for channel in range(kernel.shape[0]):
        first = channel // per_group * kernel.shape[1]
        for i, j in np.ndindex(*size):
            top, left = i * stride[0], j * stride[1]
            rows = slice(top, top + reach[0], dilation[0])
            columns = slice(left, left + reach[1], dilation[1])
            window = x[:, first : first + kernel.shape[1], rows, columns]
            out[:, channel, i, j] = (window * kernel[channel]).sum((1, 2, 3))
    return out if bias is None else out + bias.reshape(1, -1, 1, 1)


CASES: list[tuple[Callable[..., Any], list[Array], Array]] = [
    (arange, [np.float32([1.0])], np.arange(0, 8, 2) + 1.0),
    (arange_of_one_argument, [np.int32([1])], np.arange(4) + 1),
    (baddbmm, [SQUARE, SEQUENCE, OTHER], 0.5 * SQUARE + 0.25 * (SEQUENCE @ OTHER)),
    (chunk, [SEQUENCE], SEQUENCE[..., 4:]),
    (split_in_equal_parts, [SEQUENCE], SEQUENCE[..., 4:]),
    (split_in_given_sizes, [SEQUENCE], SEQUENCE[..., 3:]),
    (stack, [SEQUENCE, -SEQUENCE], np.stack([SEQUENCE, -SEQUENCE], axis=1)),
    (index_select, [X, IDS], X[:, [3, 3, 2]]),
    (sort, [X], -np.sort(-X, axis=1)),
    (outer, [IDS, WEIGHT], np.outer(IDS[0], WEIGHT)),
    (ones_like, [X], np.ones_like(X)),
    (zeros_like, [X], np.zeros_like(X)),
    (embedding, [IDS, TABLE], TABLE[IDS]),
    (gelu, [SEQUENCE], numpy_gelu(SEQUENCE)),
    (
        gelu_by_tanh,
        [SEQUENCE],
        SEQUENCE * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (SEQUENCE + 0.044715 * SEQUENCE**3))),
    ),
    (silu, [SEQUENCE * 20], SEQUENCE * 20 / (1 + np.exp(-SEQUENCE * 20))),
    (layer_norm, [SEQUENCE, WEIGHT, -WEIGHT], numpy_norm(SEQUENCE, (2,), 1e-3) * WEIGHT - WEIGHT),
    (layer_norm_without_weights, [SEQUENCE], numpy_norm(SEQUENCE, (1, 2), 1e-5)),
    (pad, [X], np.pad(X, ((0, 0), (0, 0), (2, 3), (0, 1)), constant_values=7.0)),
    (conv2d, [X, KERNEL, BIAS], numpy_conv(X, KERNEL, BIAS, stride=(2, 2), padding=(1, 1))),
    (conv2d_with_pairs, [X, KERNEL], numpy_conv(X, KERNEL, stride=(1, 2), padding=(2, 1), dilation=(1, 2))),
    (conv2d_of_groups, [X, GROUPED_KERNEL, BIAS], numpy_conv(X, GROUPED_KERNEL, BIAS, groups=2)),
    (conv2d_same, [X, KERNEL], numpy_conv(X, KERNEL, padding=(1, 1))),
]


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(("function", "inputs", "expected"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_twin_computes_what_numpy_does(
    function: Callable[..., Any], inputs: list[Array], expected: Array, compiled: bool
) -> None:
    """The networks of mindone mean the mint function; the twin must be that function."""
    call = ms.jit(function, jit_level="O0") if compiled else function
    result = call(*[ms.Tensor(each) for each in inputs]).asnumpy()
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_the_gated_unit_of_mindone_runs(compiled: bool) -> None:
    """GEGLU halves its projection with Tensor.chunk, which has no compiled kernel."""
    from mindone.diffusers.models.activations import GEGLU

    cell = GEGLU(8, 4)
    cell.set_train(False)
    weight, bias = cell.proj.weight.asnumpy(), cell.proj.bias.asnumpy()

    def gated(x: Any) -> Any:
        return cell(x)

    call = ms.jit(gated, jit_level="O0") if compiled else gated
    hidden, gate = np.split(SEQUENCE @ weight.T + bias, 2, axis=-1)
    np.testing.assert_allclose(call(ms.Tensor(SEQUENCE)).asnumpy(), hidden * numpy_gelu(gate), atol=TOLERANCE)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_the_adaptive_norm_of_mindone_runs(compiled: bool) -> None:
    """AdaLayerNormZero cuts shifts, scales and gates from one projection, with Tensor.chunk."""
    from mindone.diffusers.models.normalization import AdaLayerNormZero

    cell = AdaLayerNormZero(8)
    cell.set_train(False)
    weight, bias = cell.linear.weight.asnumpy(), cell.linear.bias.asnumpy()

    def normed(x: Any, emb: Any) -> Any:
        return cell(x, emb=emb)

    call = ms.jit(normed, jit_level="O0") if compiled else normed
    x, *rest = (out.asnumpy() for out in call(ms.Tensor(SEQUENCE), ms.Tensor(TABLE[:2])))
    shift, scale, *gates = np.split((TABLE[:2] / (1 + np.exp(-TABLE[:2]))) @ weight.T + bias, 6, axis=1)
    expected = numpy_norm(SEQUENCE, (2,), 1e-6) * (1 + scale[:, None]) + shift[:, None]
    np.testing.assert_allclose(x, expected, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(rest, gates, rtol=TOLERANCE, atol=TOLERANCE)


def test_the_transformer_of_mindone_puts_its_patches_where_they_were() -> None:
    """Its last norm is cut with Tensor.chunk and its patches are laid out by einsum, which the CPU lacks too."""
    from mindone.diffusers import DiTTransformer2DModel

    shape = {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1, "sample_size": 4, "out_channels": 3}
    cell = DiTTransformer2DModel(**shape, num_embeds_ada_norm=5)
    cell.set_train(False)
    x, t, label = ms.Tensor(X[..., :4, :4]), ms.Tensor(np.float32([3, 4])), ms.Tensor(np.int32([1, 5]))
    block = cell.transformer_blocks[0]
    hidden = block(cell.pos_embed(x), timestep=t, class_labels=label).asnumpy()
    condition = block.norm1.emb(t, label, hidden_dtype=ms.float32).asnumpy()
    shift, scale = np.split(linear(condition / (1 + np.exp(-condition)), cell.proj_out_1), 2, axis=1)
    hidden = numpy_norm(hidden, (2,), 1e-6) * (1 + scale[:, None]) + shift[:, None]
    patches = linear(hidden, cell.proj_out_2).reshape(2, 2, 2, 2, 2, 3)
    expected = np.einsum("nhwpqc->nchpwq", patches).reshape(2, 3, 4, 4)
    np.testing.assert_allclose(cell(x, t, label)[0].asnumpy(), expected, rtol=TOLERANCE, atol=TOLERANCE)


def linear(x: Array, layer: Any) -> Array:
    return x @ layer.weight.asnumpy().T + layer.bias.asnumpy()


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_sample_that_is_nan_does_not_change_its_neighbour(compiled: bool) -> None:
    """MindSpore's own SiLU rounds every value differently once one is NaN; a failed sample must fail alone."""
    x = RNG.standard_normal((4, 64, 8, 8)).astype(np.float32)
    with_nan = x.copy()
    with_nan[0] = np.nan
    call = ms.jit(silu, jit_level="O0") if compiled else mint.nn.SiLU()
    assert (call(ms.Tensor(with_nan)).asnumpy()[1:] == call(ms.Tensor(x)).asnumpy()[1:]).all()


def test_layers_call_the_twins() -> None:
    """Layers hold the functions under names of their own, taken when their modules were imported."""
    layer = mint.nn.Conv2d(4, 6, 3, padding=1)
    expected = numpy_conv(X, layer.weight.asnumpy(), layer.bias.asnumpy(), padding=(1, 1))
    np.testing.assert_allclose(layer(ms.Tensor(X)).asnumpy(), expected, atol=TOLERANCE)
    normal = mint.nn.LayerNorm(5)
    np.testing.assert_allclose(normal(ms.Tensor(X)).asnumpy(), numpy_norm(X, (3,), 1e-5), atol=TOLERANCE)


def test_installing_twice_changes_nothing() -> None:
    """The second call finds the twins in place and does not replace them by twins of themselves."""
    from ddim_core.sampling import cpu_kernels

    before = mint.arange
    cpu_kernels.install()
    assert mint.arange is before


def test_kernels_come_before_mindone() -> None:
    """Networks of a mindone that was imported first keep the functions that fail."""
    code = (
        "import sys, types; sys.modules['mindone'] = types.ModuleType('mindone')\n"
        "from ddim_core.sampling import cpu_kernels\n"
        "cpu_kernels.install()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "HostError: the CPU kernels must be installed before mindone is imported" in ended.stderr
