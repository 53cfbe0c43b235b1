"""A row of input before it is validated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ddim_core.errors import Fault


@dataclass(frozen=True, slots=True)
class Row:
    """The fields that one line gives, not yet validated; what it leaves out or sets to null is absent."""

    source: str
    line: int | None
    fields: dict[str, Any]
    typed: bool = True
    """Whether the format tells numbers from text; false for CSV, where everything is text."""

    def fault(self, field: str | None, rule: str) -> Fault:
        """Return a fault of this row."""
        return Fault(self.source, self.line, field, rule)
