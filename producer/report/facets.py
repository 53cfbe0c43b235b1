"""What images were sampled with: the parameters of a row as text, and the values that each takes in a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from ddim_core.contracts.record import Record, is_cut
from ddim_core.schedule.config import PARAMETER_NAMES
from producer.report.wording import short

MAX_CHOICES = 40
"""With more values than these a parameter is filtered by a range, if it is a number, and otherwise not at all."""
VALUES_SHOWN = 4

Pairs = tuple[tuple[str, str], ...]
"""Names and values, as a person reads them."""


def parameters(record: Record) -> Pairs:
    """Return every sampling parameter of a row, scheduler fields under their own names."""
    return (
        ("Steps", str(record.num_inference_steps)),
        ("Guidance", short(record.guidance_scale)),
        ("Guidance rescale", short(record.guidance_rescale)),
        ("Eta", short(record.eta)),
        ("Size", f"{record.width} x {record.height}"),
        *_seen(record),
        *_scheduler(record.scheduler),
    )


def _seen(record: Record) -> Pairs:
    """Return how much of the prompts the model saw, where that is known."""
    if record.prompt_tokens is None:
        return ()
    whole = "whole" if record.windows == 1 else f"whole, in {record.windows} windows"
    return (("Prompt seen", "cut" if is_cut(record) else whole),)


@lru_cache(maxsize=1024)
def _scheduler(text: str) -> Pairs:
    fields = json.loads(text)
    return tuple((name, _as_text(fields[name])) for name in sorted(PARAMETER_NAMES) if fields.get(name) is not None)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value)
    return "given" if isinstance(value, list) else str(value)  # trained_betas are a thousand numbers


@dataclass(slots=True)
class Facet:
    """The values of one parameter in a run, counted as far as they are few."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    too_many: bool = False
    """Whether there are more values than ``counts`` holds."""
    numeric: bool = True
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, value: str) -> None:
        """Count one image with this value."""
        if value in self.counts:
            self.counts[value] += 1
            return
        try:
            number = float(value)
            self.low, self.high = min(self.low, number), max(self.high, number)
        except ValueError:
            self.numeric = False
        if len(self.counts) < MAX_CHOICES:
            self.counts[value] = 1
        else:
            self.too_many = True

    @property
    def varies(self) -> bool:
        """Whether the run has more than one value of it."""
        return self.too_many or len(self.counts) > 1

    @property
    def kind(self) -> Literal["choice", "range"] | None:
        """How a reader can filter by it; None where it would be of no use or the values are too many."""
        if self.too_many:
            return "range" if self.numeric else None
        return "choice" if self.varies else None

    def values(self) -> list[str]:
        """Return the values that were counted, in an order that a person expects."""
        return sorted(self.counts, key=_numbers_first)

    def summary(self) -> str:
        """Return the values in one line."""
        if self.too_many:
            return f"{short(self.low)} to {short(self.high)}" if self.numeric else f"more than {MAX_CHOICES} values"
        values = self.values()
        if len(values) <= VALUES_SHOWN:
            return ", ".join(values)
        return f"{values[0]} to {values[-1]} ({len(values)} values)"


def _numbers_first(value: str) -> tuple[list[float], str]:
    """Return what sorts ``8`` before ``20``, and ``64 x 64`` before ``512 x 512``."""
    try:
        return [float(word) for word in value.split(" x ")], ""
    except ValueError:
        return [float("inf")], value
