"""What a scenario came to: figures beside their targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.chaos.audit import Fault


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value, what it should be, and whether it is."""

    name: str
    value: str
    target: str
    met: bool


def at_most(name: str, value: float, limit: float, unit: str = "") -> Figure:
    """Return a figure that must not pass ``limit``."""
    return Figure(name, _text(value, unit), f"at most {_text(limit, unit)}", value <= limit)


def exactly(name: str, value: float, target: float) -> Figure:
    """Return a figure that must be ``target``."""
    return Figure(name, _text(value, ""), _text(target, ""), value == target)


def noted(name: str, value: float, unit: str) -> Figure:
    """Return a figure without a target."""
    return Figure(name, _text(value, unit), "none", met=True)


def of_faults(faults: Iterable[Fault], *kinds: str) -> list[Figure]:
    """Return the number of faults of each kind that a scenario names, and of all others together; all must be 0."""
    found = list(faults)
    named = [exactly(_plural(kind), sum(fault.kind == kind for fault in found), 0) for kind in kinds]
    return [*named, exactly("other faults of the dataset", sum(fault.kind not in kinds for fault in found), 0)]


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as the rows of a Markdown table."""
    rows = [("figure", "measured", "target", ""), ("---", "---", "---", "---")]
    rows += [(one.name, one.value, one.target, "met" if one.met else "MISSED") for one in figures]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _plural(kind: str) -> str:
    return {"half-written object": "half-written objects", "changed byte": "files or images with changed bytes"}.get(
        kind, kind if kind.startswith("differs") else f"{kind}s"
    )


def _text(value: float, unit: str) -> str:
    number = str(value) if isinstance(value, int) else f"{value:.3g}"
    return f"{number} {unit}".strip()
