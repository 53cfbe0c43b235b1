"""What the C++ sources are, how they are compiled, and their hash, by which a library is known to be built from them.

Needs nothing but Python's library: the build hook (``hatch_build.py``) loads this file before the package is installed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

SOURCES = Path(__file__).parent / "csrc"
LIBRARIES = Path(__file__).parent / "lib"

# Without contraction a product and a sum are fused only where the source says so: equal bits from every compiler.
FLAGS = (
    *("-O3", "-std=c++17", "-ffp-contract=off", "-fPIC", "-shared", "-pthread"),
    *("-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-Wall", "-Wextra", "-Werror"),
)
INSTRUCTION_SETS = {
    "x86_64": ("x86-64-v4", "x86-64-v3"),
    "aarch64": ("aarch64",),
}
"""Of each machine, the best one first."""

MARK = b"ddim-fused-sources:"


def library_name(instruction_set: str) -> str:
    """Return the name of the library's file, in ``LIBRARIES``."""
    return f"fused-{instruction_set}.so"


def sources_hash(folder: Path = SOURCES) -> str:
    """Return the SHA-256 of the sources' names and bytes and of the flags, in hexadecimal."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in sorted([*folder.glob("*.cc"), *folder.glob("*.h")]):
        content = path.read_bytes()
        digest.update(f"\0{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def hash_in(library: bytes) -> str | None:
    """Return the hash that a library carries, or None if it carries none."""
    start = library.find(MARK)
    if start < 0:
        return None
    start += len(MARK)
    return library[start : start + 64].decode("ascii", "replace")
