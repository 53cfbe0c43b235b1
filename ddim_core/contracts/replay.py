"""What the producer asks a sampling process that makes a few images again, from their rows alone."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from ddim_core.contracts.record import Record

REPLAY_MODULE = "workers.replay"
"""The program, started by its name: the producer never imports the workers."""
COMPLAINT = "ddim-fleet replay: "
"""What the process puts before the error that ends it."""
REPLAYED = "rows.jsonl"
"""In the order's folder: the new row of each image, whose ``path`` is a file beside it."""


class ReplayOrder(BaseModel):
    """Rows whose images shall be made again; the process reads it from its standard input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    devices: str
    """Where, in a form that workers know; the first of several devices is taken."""
    models: tuple[str, ...] = ()
    """Checkpoints, or folders that hold some."""
    folder: str
    """Where images and ``REPLAYED`` go."""
    rows: tuple[Record, ...]
