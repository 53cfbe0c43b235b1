"""MindSpore on one device: set up once per process, and its errors in our words.

Import this module, and call ``start``, before anything else that imports MindSpore or mindone.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import warnings
from collections.abc import Iterator

import mindspore as ms

from ddim_core.errors import DeviceError, HostError, OutOfMemoryError
from ddim_core.sampling import cpu_kernels
from ddim_core.sampling.settings import DEVICES

# From the binaries of MindSpore 2.7.2: memory pool, device runtime, and the driver's code for a failed allocation.
_OUT_OF_MEMORY = re.compile(
    r"memory not enough|memory isn't enough|out of memory|allocate memory failed|malloc device memory failed"
    r"|halMemAlloc failed|207001",
    re.IGNORECASE,
)
_OFF = ("", "0", "false")


@functools.cache
def start(kind: str, index: int = 0, *, cpu_threads: int | None = None) -> None:
    """Bind this process to one device, before anything imports mindone; a second call like the first does nothing.

    Args:
        kind: One of ``DEVICES``.
        index: Which of the devices this process may see.
        cpu_threads: Threads for the kernels of the CPU device; None for MindSpore's own choice.

    Raises:
        HostError: The compile cache is on, the kind is unknown, or MindSpore does not know the device.
    """
    _refuse_compile_cache()
    if kind not in DEVICES:
        raise HostError(f"device must be {' or '.join(DEVICES)}, got {kind}")
    try:
        ms.set_device(kind, index)
        if cpu_threads is not None:
            ms.device_context.cpu.op_tuning.threads_num(cpu_threads)
    except (RuntimeError, ValueError, TypeError) as error:
        raise HostError(f"device must be one that MindSpore can use, got {kind}:{index}: {_headline(error)}") from error
    if ms.get_context("enable_compile_cache"):
        raise HostError("enable_compile_cache must be off, got on: it gives wrong images")
    if kind == "CPU":
        # Launching kernels from threads of their own takes three times as long on two cores.
        ms.runtime.launch_blocking()
    with quiet_import():
        cpu_kernels.install()


def device_error(error: Exception) -> DeviceError:
    """Return what MindSpore raised as one of our errors; it has no exception classes of its own to go by."""
    if _OUT_OF_MEMORY.search(str(error)):
        return OutOfMemoryError(f"the device ran out of memory: {_headline(error)}; lower the number of slots")
    return DeviceError(f"the device failed: {_headline(error)}")


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Keep what mindone and transformers print and warn about on import away from the user's terminal."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _refuse_compile_cache() -> None:
    value = os.environ.get("MS_COMPILER_CACHE_ENABLE", "")
    if value.lower() not in _OFF:
        raise HostError(
            f"MS_COMPILER_CACHE_ENABLE must be unset, got {value}: MindSpore numbers the entries of its compile cache "
            "by order, so a second process gets another function's graph and wrong images"
        )


def _headline(error: Exception) -> str:
    """Return what MindSpore's error says between its rulers, without the call stacks that follow."""
    lines = [line for line in (line.strip(" -\t") for line in str(error).splitlines()) if line] or [
        type(error).__name__
    ]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
