"""Every elementwise function that the models take on the CPU against float64, in float32's units of the last place."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
from mindspore import mint, ops  # noqa: E402 - needs MindSpore

from ddim_core.sampling import device  # noqa: E402

device.start("CPU")  # the lists below take the functions as they are then

pytestmark = pytest.mark.mindspore

Array = np.ndarray[Any, Any]

ULPS = 4
RNG = np.random.default_rng(0)
COUNT = 1 << 16


def between(low: float, high: float) -> Array:
    drawn = RNG.uniform(low, high, COUNT)
    return np.concatenate([drawn, np.linspace(low, high, 1001)]).astype(np.float32)


def magnitudes(low: float, high: float) -> Array:
    return np.exp(RNG.uniform(math.log(low), math.log(high), COUNT)).astype(np.float32)


def rows(length: int) -> Array:
    """Attention scores, as far apart as those of a sharp head."""
    return (RNG.standard_normal((COUNT // length, length)) * 5).astype(np.float32)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


def gelu(x: Array) -> Array:
    return x * 0.5 * np.vectorize(math.erfc)(-x / math.sqrt(2))


def gelu_by_tanh(x: Array) -> Array:
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def mint_gelu_by_tanh(x: Any) -> Any:
    return mint.nn.functional.gelu(x, approximate="tanh")


def mint_pow(x: Any) -> Any:
    return mint.pow(x, 3.0)


def mint_softmax(x: Any) -> Any:
    return mint.softmax(x, dim=-1)


def ops_softmax(x: Any) -> Any:
    return ops.softmax(x, axis=-1)


def quotient(x: Any) -> Any:
    return x[:-1] / x[1:]


def numpy_quotient(x: Array) -> Array:
    return x[:-1] / x[1:]


@dataclass(frozen=True)
class Function:
    """One function, on the values that the models give it."""

    name: str
    of_mindspore: Callable[[Any], Any]
    exact: Callable[[Array], Array]
    x: Array


# The frequencies of a time embedding are exp(-log(10000) i / n); its angles are the timestep times that. A sigmoid of
# less than -87 is no normal number in float32. Norms and guidance take roots of variances.
ACCURATE = [
    Function("exp", mint.exp, np.exp, between(-87, 88)),
    Function("log", mint.log, np.log, magnitudes(1e-30, 1e30)),
    Function("sin", mint.sin, np.sin, between(0, 1000)),
    Function("cos", mint.cos, np.cos, between(0, 1000)),
    Function("sigmoid", mint.sigmoid, sigmoid, between(-87, 87)),
    Function("tanh", mint.tanh, np.tanh, between(-10, 10)),
    Function("erf", mint.erf, erf, between(-6, 6)),
    Function("gelu, by tanh", mint_gelu_by_tanh, gelu_by_tanh, between(-10, 10)),
    Function("pow", mint_pow, lambda x: x**3, between(-10, 10)),
    Function("square", ops.square, np.square, between(-100, 100)),
    Function("sqrt", ops.sqrt, np.sqrt, magnitudes(1e-30, 1e30)),
    Function("rsqrt", mint.rsqrt, lambda x: 1 / np.sqrt(x), magnitudes(1e-30, 1e30)),
    Function("div", quotient, numpy_quotient, magnitudes(1e-15, 1e15)),
]


def units_off(function: Function, compiled: bool) -> Array:
    """Return the error of each value in units of its last place; for sin and cos of the larger of the value and 1."""
    call = ms.jit(function.of_mindspore, jit_level="O0") if compiled else function.of_mindspore
    result = call(ms.Tensor(function.x)).asnumpy()
    assert result.dtype == np.float32
    exact = function.exact(function.x.astype(np.float64))
    size = np.maximum(np.abs(exact), 1) if function.name in ("sin", "cos") else np.abs(exact)
    normal = size >= np.finfo(np.float32).tiny  # MindSpore's threads flush what is smaller to 0
    units: Array = (np.abs(result - exact) / np.spacing(size.astype(np.float32)))[normal]
    return units


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("function", ACCURATE, ids=lambda function: function.name)
def test_a_function_is_right_to_the_last_places(function: Function, compiled: bool) -> None:
    """MindSpore's own exp is off by 64, sigmoid by 129, log by 592 and tanh by 1688 of them."""
    assert units_off(function, compiled).max() <= ULPS


# What a twin would cost a step more than a fiftieth of its time; docs/models.md publishes these bounds.
APPROXIMATE = [
    (Function("silu", mint.nn.functional.silu, lambda x: x * sigmoid(x), between(-30, 30)), 1.4e-6, 8e-6),
    (Function("gelu, by erf", mint.nn.functional.gelu, gelu, between(-10, 10)), 4.8e-7, 1.0),
    (Function("softmax of 77", mint_softmax, softmax, rows(77)), 1.3e-6, 1.5e-5),
    (Function("softmax of 1024", ops_softmax, softmax, rows(1024)), 1.3e-6, 1.5e-5),
]


@pytest.mark.parametrize(("function", "absolute", "relative"), APPROXIMATE, ids=[case[0].name for case in APPROXIMATE])
def test_what_stays_approximate_is_as_far_off_as_is_published(
    function: Function, absolute: float, relative: float
) -> None:
    """The errors in the documents, for which no twin is cheap enough."""
    result = function.of_mindspore(ms.Tensor(function.x)).asnumpy()
    exact = function.exact(function.x.astype(np.float64))
    off = np.abs(result - exact)
    assert off.max() <= absolute
    assert (off <= relative * np.abs(exact) + np.finfo(np.float32).tiny).all()
    assert units_off(function, compiled=False).max() > ULPS, "it is accurate now: move it up, and out of the documents"


@pytest.mark.parametrize("width", [128, 320])
def test_the_time_embedding_is_as_right_as_float32_angles_allow(width: int) -> None:
    """A frequency that is off by half a unit moves an angle of up to 999 by 6e-5; mint.exp moved it by 2.1e-3."""
    from mindone.diffusers.models.embeddings import get_timestep_embedding

    t = np.arange(1000)
    angles = t[:, None] * np.exp(-math.log(10_000) * np.arange(width // 2) / (width // 2))
    exact = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    result = get_timestep_embedding(ms.Tensor(t, ms.float32), width, downscale_freq_shift=0).asnumpy()
    assert np.abs(result - exact).max() <= 6.5e-5


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_whole_numbers_give_floats(compiled: bool) -> None:
    """As mint.exp does; cast back to what came in, e would be 2."""
    call = ms.jit(mint.exp, jit_level="O0") if compiled else mint.exp
    np.testing.assert_allclose(call(ms.Tensor([0, 1], ms.int64)).asnumpy(), [1, math.e], rtol=1e-7)
    assert mint.exp(ms.Tensor([1], ms.float16)).dtype == ms.float16


# Functions of mindspore.ops and primitives that a model calls, by what the test above makes of them; all others that
# are elementwise are right by IEEE 754: sums, products, comparisons, choices.
MEASURED = {"exp", "log", "sin", "cos", "sigmoid", "tanh", "erf", "gelu", "silu", "softmax", "softmax_ext", "pow"}
MEASURED |= {"square", "sqrt", "rsqrt", "div"}
ELEMENTWISE = MEASURED | {
    *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "celu", "cosh", "elu", "erfc", "erfinv", "exp2"),
    *("expm1", "glu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "lgamma", "log10", "log1p", "log2"),
    *("log_softmax", "logaddexp", "logsigmoid", "logsumexp", "mish", "reciprocal", "relu6", "selu", "sinc", "sinh"),
    *("softplus", "softsign", "swiglu", "tan", "xlogy", "fast_gelu", "quick_gelu"),
}


@pytest.mark.slow
def test_the_models_call_no_function_that_was_not_measured(tmp_path: Path) -> None:
    """All kinds of checkpoints, denoisers, text encoders, VAEs: a new mindone or model may bring another function."""
    from ddim_core.checkpoints import describe, resolve

    with device.quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ddim_core.sampling.models.load import load_model
        from tests.tiny_checkpoints import WRITERS

        folders = [resolve("shapes"), *(write(tmp_path / kind) for kind, write in WRITERS.items())]
        models = [(info, load_model(info, "float32")) for info in map(describe, folders)]
    called: set[str] = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        name = frame.f_code.co_name if event == "call" else getattr(argument, "__name__", "")
        called.add(name.removeprefix("pyboost_").strip("_").lower())

    sys.setprofile(note)
    try:
        for info, model in models:
            model.call_eagerly()
            height, width = info.default_height, info.default_width
            model.decode([ops.zeros(model.latent_shape(height, width), ms.float32)], 1).read()
            if info.pipeline == "StableDiffusionPipeline":
                model.encode(np.zeros((height, width, 3), np.uint8))
    finally:
        sys.setprofile(None)
    assert {"exp", "sin", "cos", "silu", "gelu", "softmax", "sigmoid"} <= called, "the names are not found any more"
    assert called & ELEMENTWISE <= MEASURED
