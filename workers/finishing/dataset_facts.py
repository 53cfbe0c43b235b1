"""What a finished run's dataset card says of its images, gathered a row at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ddim_core.contracts.record import SUCCESS, Record, caption_of, is_cut

EXAMPLES = 5
"""Prompts that a card shows."""
VALUES_KEPT = 12
"""Of a parameter with more values than these, the card gives the range."""
NUMBERS = ("num_inference_steps", "guidance_scale", "guidance_rescale", "eta", "width", "height")
COLUMNS = ("status", "size_bytes", "prompt", "prompt_used", "negative_prompt_used", "scheduler", *NUMBERS)
"""Of a row, all that is looked at."""
SCHEDULER_WORDS = ("beta_schedule", "prediction_type", "timestep_spacing")


@dataclass(slots=True)
class Values:
    """The values that a parameter takes."""

    lowest: float
    highest: float
    few: set[float] = field(default_factory=set)
    """All of them, until there are more than ``VALUES_KEPT``."""

    def add(self, value: float) -> None:
        """Take another one in."""
        self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)
        if len(self.few) <= VALUES_KEPT:
            self.few.add(value)

    def __str__(self) -> str:
        if len(self.few) <= VALUES_KEPT:
            return ", ".join(f"{value:g}" for value in sorted(self.few))
        return f"{self.lowest:g} to {self.highest:g}"


@dataclass(slots=True)
class DatasetFacts:
    """Counts, ranges and examples of the images that were made, in the order of their keys."""

    images: int = 0
    failed: int = 0
    cut: int = 0
    """Images whose prompt or negative prompt was cut."""
    size_bytes: int = 0
    """Of the encoded images."""
    numbers: dict[str, Values] = field(default_factory=dict)
    words: dict[str, set[str]] = field(default_factory=dict)
    prompts: list[str] = field(default_factory=list)
    """The first few different ones, as they were seen."""
    _schedulers: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        """Take a row in; of failed ones only the number."""
        if record.status != SUCCESS:
            self.failed += 1
            return
        self.images += 1
        self.size_bytes += record.size_bytes or 0
        for name in NUMBERS:
            value = getattr(record, name)
            self.numbers.setdefault(name, Values(value, value)).add(value)
        self.cut += is_cut(record)
        if len(self.prompts) < EXAMPLES and (caption := caption_of(record)) not in self.prompts:
            self.prompts.append(caption)
        self._add_scheduler(record.scheduler)

    def _add_scheduler(self, text: str) -> None:
        if text in self._schedulers:
            return
        self._schedulers.add(text)
        scheduler = json.loads(text)
        for name in SCHEDULER_WORDS:
            if name in scheduler:
                self.words.setdefault(name, set()).add(str(scheduler[name]))
