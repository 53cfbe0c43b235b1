"""What the producer asks a process that makes a checkpoint folder of a single file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

CONVERT_MODULE = "workers.convert"
"""The program, started by its name: the producer never imports the workers."""
COMPLAINT = "ddim-fleet models convert: "
"""What the process puts before the error that ends it."""


class ConversionOrder(BaseModel):
    """A conversion; the process reads it from its standard input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """Safetensors with the weights of all networks under the names of the original implementation."""
    like: str
    """A checkpoint of the same kind, whose configurations and tokenizers the new one gets."""
    folder: str
    """Where it goes: an empty folder, which is a checkpoint once the process has ended well."""
