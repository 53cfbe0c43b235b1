"""What a safetensors file holds, read from its first bytes, and its weights bit by bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddim_core.errors import CheckpointError

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The dtypes of weights, by their names in the file."""

_BITS: dict[str, type[np.generic]] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""What holds them here: NumPy has no bfloat16, and nobody computes with them."""
_LENGTH_BYTES = 8
_HEADER_BYTES_MOST = 100_000_000
"""What safetensors itself allows."""


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """One tensor in a file."""

    dtype: str
    """As the file names it, such as ``F16``."""
    shape: tuple[int, ...]
    begin: int
    """Of its bytes in the file."""
    end: int

    def bits(self, path: Path) -> npt.NDArray[Any]:
        """Return the tensor, mapped into memory; bfloat16 as the 16 bits of each number.

        Raises:
            CheckpointError: It is not of floats.
        """
        kind = _BITS.get(self.dtype)
        if kind is None or self.end - self.begin != prod(self.shape) * np.dtype(kind).itemsize:
            rule = f"weights must be {', '.join(FLOATS.values())}"
            raise CheckpointError(f"{rule}, got {self.dtype} {list(self.shape)} in {path}")
        if self.begin == self.end:
            return np.zeros(self.shape, kind)
        return np.memmap(path, kind, "r", self.begin, self.shape)


def tensors_of(path: Path) -> dict[str, TensorPlace]:
    """Return the tensors of a file by name.

    Raises:
        CheckpointError: It does not begin as safetensors do, or is cut short.
    """
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            header = json.loads(file.read(length) if length < _HEADER_BYTES_MOST else b"")
        start = _LENGTH_BYTES + length
        places = {name: _place(tensor, start) for name, tensor in header.items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} must be safetensors, got a file that begins otherwise") from error
    if (end := max((place.end for place in places.values()), default=0)) > size_bytes:
        raise CheckpointError(f"{path} must have {end} bytes, as it says itself, got {size_bytes}; fetch it again")
    return places


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write tensors as ``TensorPlace.bits`` returns them, one after another and in their order, without copies of all.

    The library's own writers take no bfloat16 from NumPy.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        dtype = next(code for code, kind in _BITS.items() if tensor.dtype == kind)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    words = json.dumps(header, separators=(",", ":")).encode()
    words += b" " * (-len(words) % _LENGTH_BYTES)  # so that the numbers begin where a number may lie in memory
    with path.open("wb") as file:
        file.write(len(words).to_bytes(_LENGTH_BYTES, "little") + words)
        for tensor in tensors.values():
            file.write(np.ascontiguousarray(tensor).data if tensor.size else b"")


def _place(tensor: dict[str, Any], start: int) -> TensorPlace:
    begin, end = map(int, tensor["data_offsets"])
    if not 0 <= begin <= end:
        raise ValueError(f"data_offsets must be a range, got {begin} to {end}")
    return TensorPlace(str(tensor["dtype"]), tuple(map(int, tensor["shape"])), start + begin, start + end)
