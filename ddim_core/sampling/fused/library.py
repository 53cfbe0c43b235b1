"""Which library of kernels this process may load, if any; looks at files and at the CPU, and loads nothing.

Importing this module does not import MindSpore.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ddim_core.sampling.fused.sources import INSTRUCTION_SETS, LIBRARIES, hash_in, library_name, sources_hash

KERNEL_SET = "fused-1"
"""What rows call these kernels; the number changes whenever the bits of any result do."""
PLAIN_KERNELS = "mindspore"
"""What rows call MindSpore's own kernels."""
WHITE_LIST = "MS_CUSTOM_AOT_WHITE_LIST"

# The flags of /proc/cpuinfo that make the levels of the x86-64 psABI (https://gitlab.com/x86-psABIs/x86-64-ABI).
_V3 = frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
_FLAGS = {"x86-64-v3": _V3, "x86-64-v4": _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}}


@dataclass(frozen=True, slots=True)
class Found:
    """A library, or the reason why there is none."""

    path: Path | None = None
    instruction_set: str = ""
    reason: str = ""
    """Why MindSpore's own kernels run; empty where a library was found."""

    @property
    def kernels(self) -> str:
        """What rows call the kernels; instruction sets give equal bits, so they have one name."""
        return PLAIN_KERNELS if self.path is None else KERNEL_SET

    def __str__(self) -> str:
        return f"{self.kernels} ({self.reason or self.instruction_set})"


def find_library(environment: Mapping[str, str] = os.environ, folder: Path = LIBRARIES) -> Found:
    """Return the library of the best instruction set that this CPU has, from the package's own folder and nowhere else.

    Args:
        environment: The process's variables, for MindSpore's list of folders that kernels may lie in.
        folder: Where the libraries are; others than the package's own are for tests.
    """
    possible = instruction_sets(platform.machine(), _cpu_flags())
    if not possible:
        return Found(reason=f"no kernels for this CPU, {platform.machine()}")
    built = [name for name in possible if (folder / library_name(name)).is_file()]
    if not built:
        return Found(reason="the fused kernels were not built: make, or install a wheel of this machine's kind")
    path = folder / library_name(built[0])
    reason = _fault(path, environment)
    return Found(reason=reason) if reason else Found(path, built[0])


def instruction_sets(machine: str, flags: frozenset[str]) -> list[str]:
    """Return the instruction sets of a machine that a CPU with these flags has, the best one first."""
    return [name for name in INSTRUCTION_SETS.get(machine, ()) if _FLAGS.get(name, frozenset()) <= flags]


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    of_cores = [frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")]
    return frozenset.intersection(*of_cores) if of_cores else frozenset()


def _fault(path: Path, environment: Mapping[str, str]) -> str:
    """Return why a library must not be loaded, or an empty string."""
    if ":" in str(path):  # MindSpore takes what follows for the name of a function
        return f"MindSpore loads no kernels from a path with a colon: {path}"
    if path.resolve().parent != path.parent.resolve():
        return f"the fused kernels must lie in the package's folder, got a link to {path.resolve()}"
    listed = environment.get(WHITE_LIST)
    if listed is not None and not _is_listed(listed, path):
        return f"{WHITE_LIST} keeps kernels from being loaded from {path.parent}"
    carried = hash_in(path.read_bytes())
    if carried != sources_hash():
        return f"the fused kernels were built from other sources than are installed: build {path.name} again"
    return ""


def _is_listed(listed: str, path: Path) -> bool:
    """MindSpore looks for the real path of what is listed anywhere in that of the library."""
    folder = Path(listed)
    return folder.exists() and str(folder.resolve()) in str(path.resolve())
