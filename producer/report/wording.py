"""How a report writes numbers and times."""

from __future__ import annotations

from datetime import timezone

from producer.report.facts import moment


def duration(seconds: float) -> str:
    """Return a length of time as a person says it."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def clock(text: str) -> str:
    """Return a time of a run's files to the minute, in UTC."""
    return moment(text).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def grouped(number: int) -> str:
    """Return a whole number with its thousands set apart by narrow spaces."""
    return f"{number:,}".replace(",", "\u202f")


def short(number: float) -> str:
    """Return a number without digits that say nothing: ``7.5``, ``20``."""
    return f"{number:.10g}"


def cut(text: str, limit_chars: int) -> str:
    """Return a text, or its beginning and a sign that there is more."""
    return text if len(text) <= limit_chars else f"{text[:limit_chars]}…"
