"""Where producer and workers learn the URL of their Redis, which may hold a password."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ddim_core.errors import InputError

BROKER_VARIABLE = "DDIM_FLEET_BROKER"
BROKER_FILE_VARIABLE = "DDIM_FLEET_BROKER_FILE"

_MAX_FILE_BYTES = 16_384


def named_broker(given: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the URL that was ``given``, or else that of ``DDIM_FLEET_BROKER``, or else that in a file.

    ``DDIM_FLEET_BROKER_FILE`` names the file, as Docker and Kubernetes mount secrets. None: nothing names a broker.

    Raises:
        InputError: The file cannot be read, or does not hold one line.
    """
    if url := given or environment.get(BROKER_VARIABLE):
        return url
    path = environment.get(BROKER_FILE_VARIABLE)
    return _only_line(Path(path)) if path else None


def _only_line(path: Path) -> str:
    """Return the line that a file holds; what is wrong with it is told without quoting it."""
    try:
        with path.open("rb") as file:
            words = file.read(_MAX_FILE_BYTES).decode(errors="replace").split()
    except OSError as exc:
        why = (exc.strerror or str(exc)).lower()
        raise InputError(f"{BROKER_FILE_VARIABLE} must name a file that can be read, got {path}: {why}") from exc
    if len(words) != 1:
        raise InputError(
            f"{BROKER_FILE_VARIABLE} must name a file with one URL in it, got {len(words)} words in {path}"
        )
    return words[0]
