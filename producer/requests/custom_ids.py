"""Where each ``custom_id`` of an input was first met, in little memory."""

from __future__ import annotations

from producer.requests.rows import Row

_LINES = 1 << 40
"""More than any file has lines: a number holds a file's number above it and a line's below."""


class Places:
    """Remembers the places of a million names: a number for each, instead of a tuple."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._sources: list[str] = []
        self._places: dict[str, int] = {}

    def add(self, custom_id: str, row: Row) -> str | None:
        """Note that the row has this name; return the place that had it before, in words, if one had."""
        if (before := self._places.get(custom_id)) is not None:
            return self._in_words(before, row)
        if not self._sources or self._sources[-1] != row.source:
            self._sources.append(row.source)
        self._places[custom_id] = (len(self._sources) - 1) * _LINES + (row.line or 0)
        return None

    def of(self, custom_id: str) -> tuple[str, int] | None:
        """Return the source and the line that have this name; the line is 0 where there are none."""
        if (place := self._places.get(custom_id)) is None:
            return None
        return self._sources[place // _LINES], place % _LINES

    def _in_words(self, place: int, row: Row) -> str:
        source, line = self._sources[place // _LINES], place % _LINES
        return f"line {line}" if source == row.source else f"{source}:{line}"
