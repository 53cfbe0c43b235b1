"""A row of input before it is validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ddim_core.contracts.request import Request
from ddim_core.errors import Fault

SWEEP, SWEEP_MODE, LISTS = "sweep", "sweep_mode", "lists"
FIELDS = (*Request.model_fields, SWEEP, SWEEP_MODE, LISTS)
"""What a row may give: a request's fields, and what makes several requests of one row."""


@dataclass(frozen=True, slots=True)
class Row:
    """The fields that one line gives, not yet validated; what it leaves out or sets to null is absent."""

    source: str
    line: int | None
    fields: dict[str, Any]
    typed: bool = True
    """Whether the format tells numbers from text; false for CSV, where everything is text."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the line calls those of our fields that it does not call by our names."""
    expects: Mapping[str, Any] = field(default_factory=dict)
    """What the line takes for granted of its run: ``model``, ``output_format``."""

    def fault(self, name: str | None, rule: str) -> Fault:
        """Return a fault of this row, under the name that the line has for the field."""
        if name is not None and self.names:
            outer, dot, inner = name.partition(".")
            name = self.names.get(name) or f"{self.names.get(outer, outer)}{dot}{inner}"
        return Fault(self.source, self.line, name, rule)
