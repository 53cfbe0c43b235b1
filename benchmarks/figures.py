"""What a benchmark prints: a line for the reader, and a row that ``python -m benchmarks`` completes for the docs."""

from __future__ import annotations

from dataclasses import dataclass

ROW = "| "
"""How the rows begin; ``python -m benchmarks`` collects the lines that do."""


@dataclass(frozen=True, slots=True)
class Target:
    """The bound that a figure has to keep."""

    sign: str
    """``>=`` or ``<=``."""
    value: float

    def met_by(self, value: float) -> bool:
        """Whether a measured value keeps the bound."""
        return value >= self.value if self.sign == ">=" else value <= self.value

    def __str__(self) -> str:
        """The bound as a reader writes it."""
        return f"{self.sign} {self.value:g}"


def at_least(value: float) -> Target:
    """Return the target of a figure that should be large."""
    return Target(">=", value)


def at_most(value: float) -> Target:
    """Return the target of a figure that should be small."""
    return Target("<=", value)


def report(what: str, value: float, target: Target | None = None, *, because: str = "") -> None:
    """Print a figure, what it was made from, and whether it keeps its target; figures without one are context."""
    verdict = "no target" if target is None else f"{target}: {'met' if target.met_by(value) else 'MISSED'}"
    shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    print(f"  {what}: {shown} ({verdict}){because and '; ' + because}", flush=True)
    print(f"{ROW}{what} | {shown} | {verdict} | {because} |", flush=True)


def left_out(what: str, why: str) -> None:
    """Print that a figure was not measured."""
    print(f"  {what}: left out, {why}", flush=True)
    print(f"{ROW}{what} | left out | | {why} |", flush=True)
