"""A point in time as files keep it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

from pydantic import AfterValidator


def _is_iso_8601(text: str) -> str:
    datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not know the Z
    return text


Moment = Annotated[str, AfterValidator(_is_iso_8601)]
"""ISO 8601, such as 2026-01-31T12:00:00+00:00; a file that says something else is damaged."""


def now() -> str:
    """Return the time as records of a run have it: ISO 8601, UTC, milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
