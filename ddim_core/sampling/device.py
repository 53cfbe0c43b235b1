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
from pathlib import Path

import mindspore as ms
from mindspore.common import api

from ddim_core.errors import DeviceError, FleetError, HostError, OutOfMemoryError
from ddim_core.sampling import cpu_kernels
from ddim_core.sampling.fused.operators import operators
from ddim_core.sampling.settings import DEVICES

# From the binaries of MindSpore 2.7.2: memory pool, device runtime, and the driver's code for a failed allocation; last
# the status NO_MEMORY of our own kernels (fused/csrc/pool.h).
_OUT_OF_MEMORY = re.compile(
    r"memory (is )?not enough|memory isn't enough|out of memory|failed to allocate memory|halMemAlloc failed|207001"
    r"|(allocate|malloc)( device| physical)? memory failed|function\(ddim_\w+\) is 12\b",
    re.IGNORECASE,
)
_NO_SUCH_TARGET = "Unsupported device target"
"""What MindSpore says where its library for the device cannot be loaded: no restart changes that."""
_NOT_LOADED = re.compile(r"Load dynamic library: \S+ failed\. (.+)")
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
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
        DeviceError: The device does not start, as one that is being reset; it may a while later.
    """
    _refuse_compile_cache()
    if kind not in DEVICES:
        raise HostError(f"device must be {' or '.join(DEVICES)}, got {kind}")
    try:
        ms.set_device(kind, index)
        if cpu_threads is not None:
            ms.device_context.cpu.op_tuning.threads_num(cpu_threads)
    except (RuntimeError, ValueError, TypeError) as error:
        raise _start_error(f"{kind}:{index}", error) from error
    if ms.get_context("enable_compile_cache"):
        raise HostError("enable_compile_cache must be off, got on: it gives wrong images")
    if kind == "CPU":
        # Launching kernels from threads of their own takes three times as long on two cores.
        ms.runtime.launch_blocking()
    with quiet_import():
        cpu_kernels.install()
    if kind == "CPU" and cpu_threads is not None and (kernels := operators()) is not None:
        kernels.use_threads(cpu_threads)


def _start_error(name: str, error: Exception) -> FleetError:
    """Return what MindSpore's refusal of a device means: a host that cannot have it, or a device that may come back."""
    if isinstance(error, RuntimeError) and _NO_SUCH_TARGET not in str(error):
        return DeviceError(f"the device must start, got {name}: {_headline(error)}")
    missing = _NOT_LOADED.search(str(error))
    remedy = f"; {missing[1]}: is CANN's set_env.sh in this environment (deploy/with-cann)?" if missing else ""
    return HostError(f"device must be one that MindSpore can use, got {name}: {_headline(error)}{remedy}")


def device_error(error: Exception) -> DeviceError:
    """Return what MindSpore raised as one of our errors; it has no exception classes of its own to go by."""
    if is_out_of_memory(error):
        return OutOfMemoryError(f"the device ran out of memory: {_headline(error)}; lower the number of slots")
    return DeviceError(f"the device failed: {_headline(error)}")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether MindSpore, or one of ours who heard of it, says that the device's memory is used up."""
    return isinstance(error, OutOfMemoryError) or bool(_OUT_OF_MEMORY.search(str(error)))


def graphs_compiled() -> int:
    """Return how many graphs this process has compiled so far."""
    return len(api.ms_compile_cache)


def reset_peak_memory() -> None:
    """Begin to measure what ``peak_memory_bytes`` returns."""
    if _on_ascend():
        ms.runtime.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # a kernel that keeps it from us leaves the peak since the start
            _CLEAR_REFS.write_text(_RESET_PEAK)


def peak_memory_bytes() -> int:
    """Return the most memory in use since ``reset_peak_memory``: the device's, or on the CPU the process's."""
    if _on_ascend():
        return int(ms.runtime.max_memory_allocated())
    [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def total_memory_bytes() -> int | None:
    """Return the memory of the device; None on the CPU, where it is everybody's, and where MindSpore does not tell."""
    return int(ms.hal.get_device_properties(0).total_memory) or None if _on_ascend() else None


def release_memory() -> None:
    """Give back what MindSpore's pool holds and nobody uses."""
    ms.runtime.empty_cache()


def _on_ascend() -> bool:
    return bool(ms.get_context("device_target") == "Ascend")


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
