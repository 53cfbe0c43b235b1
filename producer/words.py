"""How counts, times and texts read in what the producer prints."""

from __future__ import annotations

from ddim_core.storage.urls import folder_of


def shown(url: str) -> str:
    """Return a store's URL as a person can open it: a path where it is one."""
    return str(folder_of(url)) if url.startswith("file://") else url


def counted(number: int, noun: str) -> str:
    """Return ``1 image`` or ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Return a time as ``h:mm:ss``, or ``m:ss`` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
