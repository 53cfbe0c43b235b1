"""MindSpore operators made of the library's kernels, once a process."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ddim_core.sampling.fused.library import KERNEL_SET, PLAIN_KERNELS, Found, find_library

logger = logging.getLogger(__name__)

Shape: TypeAlias = Sequence[int]

# The shape of each kernel's output, from those of its inputs and from nothing else: uncompiled, MindSpore takes the
# shape of one operator for that of another of the same kernel.
_OUT_SHAPES: dict[str, Callable[..., Shape]] = {
    "resnet": lambda x, *rest: [x[0], rest[11][0], *x[2:]],
    "transformer": lambda x, *_: x,
    "convolution": lambda x, _settings, _gain, _shift, weight, _bias: [x[0], weight[0], *x[2:]],
    "upsample": lambda x, _settings, _gain, _shift, weight, _bias: [x[0], weight[0], 2 * x[2], 2 * x[3]],
    "downsample": lambda x, _settings, _gain, _shift, weight, _bias: [
        x[0],
        weight[0],
        (x[2] + 1) // 2,
        (x[3] + 1) // 2,
    ],
    "downsample_corner": lambda x, _settings, _gain, _shift, weight, _bias: [x[0], weight[0], x[2] // 2, x[3] // 2],
    "time_embedding": lambda t, _settings, _frequencies, weight, *_: [t[0], weight[0]],
    "lane_x": lambda _state, _settings, like: like,
    "lane_t": lambda state, *_: [state[0]],
    "update": lambda _out, _settings, state, *_: state,
}


@dataclass(frozen=True, slots=True)
class Operators:
    """The kernels of one loaded library."""

    path: Path

    def make(self, kernel: str) -> Any:
        """Return an operator that calls ``ddim_<kernel>``; inputs and output are float32."""
        function = f"{self.path}:ddim_{kernel}"
        return ops.Custom(function, _OUT_SHAPES[kernel], lambda *_: ms.float32, func_type="aot")

    def use_threads(self, count: int) -> None:
        """Have the kernels share their lanes among threads, the caller's among them; results do not depend on it."""
        ctypes.CDLL(str(self.path)).ddim_use_threads(count)


@functools.cache
def operators() -> Operators | None:
    """Return this process's kernels, or None where MindSpore's own run: then one line in the log says why.

    Never on another device than the CPU.
    """
    if ms.get_context("device_target") != "CPU":
        return None
    found = find_library()
    if found.path is not None:
        try:
            loaded = load(found.path)
        except Exception as error:  # whatever MindSpore and the system's loader raise
            found = Found(reason=f"the fused kernels cannot be loaded: {error}")
        else:
            extra = {"action": "kernels_loaded", "kernels": found.kernels, "instruction_set": found.instruction_set}
            logger.info("fused kernels run", extra=extra)
            return loaded
    logger.warning(
        "MindSpore's own kernels run, which take two to three times as long",
        extra={"action": "kernels_plain", "reason": found.reason},
    )
    return None


def kernels_in_use() -> str:
    """Return what rows call the CPU's kernels of this process; call it when a device is bound."""
    return PLAIN_KERNELS if operators() is None else KERNEL_SET


def load(path: Path) -> Operators:
    """Load a library that ``find_library`` found.

    Raises:
        OSError: The system cannot load it.
        RuntimeError: MindSpore cannot call it, or a kernel does not answer as it must.
    """
    loaded = Operators(path)
    loaded.use_threads(len(os.sched_getaffinity(0)))
    _try(loaded)
    return loaded


def settings(*values: float) -> Tensor:
    """Return a kernel's settings as the small tensor that it reads them from."""
    return Tensor(np.array(values, np.float32))


def _try(operators: Operators) -> None:
    """Call the simplest kernel: ``Custom`` is marked experimental, and a release may change how it calls."""
    state, like = np.arange(14, dtype=np.float32).reshape(2, 7), np.zeros((2, 2, 1, 1), np.float32)
    x = operators.make("lane_x")(Tensor(state), settings(0), Tensor(like)).asnumpy()
    if x.tobytes() != state[:, :2].tobytes():
        raise RuntimeError("a kernel returned what it should not")
