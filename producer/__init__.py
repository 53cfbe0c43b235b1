"""The producer: the command line ``ddim-fleet``, and the same in Python as ``Client``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producer.client import Client, Run
    from producer.runs.progress import RunStatus

__all__ = ["Client", "Run", "RunStatus"]

_HOMES = {"Client": "producer.client", "Run": "producer.client", "RunStatus": "producer.runs.progress"}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: ``ddim-fleet --help`` must not wait for pyarrow and Celery."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
