"""Builds the fused CPU kernels into the package; hatchling runs this for wheels and editable installs.

``DDIM_FLEET_KERNELS`` says what to build:

- unset or ``off``: nothing. A host that only submits runs needs no kernels, and a build is not told of the extras.
- ``native``: for this machine, by g++ if it is there, else by the C++ compiler of the package ``ziglang``, which is
  then fetched for the build. A failure is told and does not fail the installation: MindSpore's own kernels run then.
- ``wheel``: for all CPUs of this kind and old C libraries, by ``ziglang``, into a wheel of that platform; here a
  failure is one.

``python hatch_build.py native`` builds into the source tree by itself.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by itself
    BuildHookInterface = object

ROOT = Path(__file__).parent
FUSED = ROOT / "ddim_core" / "sampling" / "fused"
VARIABLE = "DDIM_FLEET_KERNELS"
KINDS = ("off", "native", "wheel")
COMPILER = "ziglang==0.17.1"
GLIBC = "2.28"
_TIMEOUT_S = 600

# What g++ and zig call the instruction sets.
_GCC = {"x86-64-v3": "x86-64-v3", "x86-64-v4": "x86-64-v4", "aarch64": "armv8-a"}
_ZIG = {"x86-64-v3": "x86_64_v3", "x86-64-v4": "x86_64_v4", "aarch64": "generic"}


class CustomBuildHook(BuildHookInterface):
    """Builds the libraries before hatchling collects the package's files."""

    def dependencies(self) -> list[str]:
        """Return the compiler, where one must be fetched."""
        kind = kind_asked_for()
        needed = self.target_name == "wheel" and (kind == "wheel" or (kind == "native" and not shutil.which("g++")))
        return [COMPILER] if needed else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is asked for; ``version`` is ``standard`` or ``editable``."""
        kind = kind_asked_for()
        if self.target_name != "wheel" or kind == "off":
            return
        try:
            built = build(kind)
        except (OSError, subprocess.SubprocessError, BuildError) as error:
            if kind == "wheel":
                raise
            self.app.display_warning(f"the fused kernels were not built, MindSpore's own will run: {error}")
            return
        # Git ignores them; what an earlier build left beside them stays out of the wheel.
        build_data["artifacts"] += [str(path.relative_to(ROOT)) for path in built]
        build_data["pure_python"] = False
        system = f"manylinux_{GLIBC.replace('.', '_')}" if kind == "wheel" else "linux"
        build_data["tag"] = f"py3-none-{system}_{platform.machine()}"


class BuildError(Exception):
    """No compiler was found, or it refused."""


def kind_asked_for() -> str:
    """Return what the environment asks for."""
    kind = os.environ.get(VARIABLE) or "off"
    if kind not in KINDS:
        raise ValueError(f"{VARIABLE} must be {', '.join(KINDS)}, got {kind}")
    return kind


def build(kind: str) -> list[Path]:
    """Build the libraries of this machine's kind into the package; return their paths.

    Raises:
        BuildError: There is no compiler, or no kernels for this machine.
    """
    sources = runpy.run_path(str(FUSED / "sources.py"))
    names: Sequence[str] = sources["INSTRUCTION_SETS"].get(platform.machine(), ())
    if platform.system() != "Linux" or not names:
        raise BuildError(f"there are no kernels for {platform.system()} on {platform.machine()}")
    command = _zig if kind == "wheel" or not shutil.which("g++") else _gcc
    folder: Path = sources["LIBRARIES"]
    folder.mkdir(exist_ok=True)
    define = f"-DDDIM_SOURCES={sources['sources_hash']()}"
    return [
        _compile(command, name, [*sources["FLAGS"], define], folder / sources["library_name"](name)) for name in names
    ]


def _compile(command: Callable[[str], list[str]], name: str, flags: Sequence[str], library: Path) -> Path:
    files = sorted(map(str, (FUSED / "csrc").glob("*.cc")))
    unfinished = library.with_suffix(f".{os.getpid()}.tmp")
    done = subprocess.run(
        [*command(name), *flags, "-o", str(unfinished), *files],
        capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        unfinished.unlink(missing_ok=True)
        raise BuildError(f"{name} cannot be compiled: {done.stderr.strip()[-2000:]}")
    unfinished.replace(library)  # whole or not at all: a running process keeps the old file
    return library


def _gcc(name: str) -> list[str]:
    return ["g++", f"-march={_GCC[name]}", "-s"]


def _zig(name: str) -> list[str]:
    """Return zig's C++ compiler; without C++'s own library, which it would build from source for minutes."""
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError(f"there is neither g++ nor the package {COMPILER}")
    target = f"{platform.machine()}-linux-gnu.{GLIBC}"
    return [
        sys.executable,
        "-m",
        "ziglang",
        "c++",
        "-target",
        target,
        f"-mcpu={_ZIG[name]}",
        "-nostdlib++",
        "-g0",
        "-s",
    ]


if __name__ == "__main__":
    try:
        built = build(sys.argv[1] if sys.argv[1:] else "native")
    except (BuildError, OSError, subprocess.SubprocessError) as problem:
        sys.exit(f"the fused kernels were not built: {problem}")
    sys.stdout.writelines(f"{path}\n" for path in built)
