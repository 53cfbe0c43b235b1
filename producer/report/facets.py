"""What images were sampled with: the parameters of a row as text, and the values that each takes in a run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from ddim_core.contracts.record import Record, is_cut
from ddim_core.schedule.config import PARAMETER_NAMES
from producer.report.wording import short

WORDS = {
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance",
    "guidance_rescale": "Guidance rescale",
    "eta": "Eta",
    "beta_start": "First beta",
    "beta_end": "Last beta",
    "beta_schedule": "Noise schedule",
    "clip_sample": "Clipping",
    "clip_sample_range": "Clipping range",
    "num_train_timesteps": "Training timesteps",
    "prediction_type": "Prediction",
    "rescale_betas_zero_snr": "Zero terminal SNR",
    "sample_max_value": "Threshold at most",
    "set_alpha_to_one": "Last step to the end",
    "steps_offset": "Step offset",
    "dynamic_thresholding_ratio": "Threshold quantile",
    "thresholding": "Dynamic threshold",
    "timestep_pairs": "A step leads",
    "timestep_spacing": "Step spacing",
}
"""What people call the fields of requests and schedulers; any other is called what it is, without underscores."""
_VALUES = {"diffusers": "T/N back, as in diffusers", "visited": "to the next one visited"}
"""What people call a value that says nothing by itself."""

MAX_CHOICES = 40
"""With more values than these a parameter is filtered by a range, if it is a number, and otherwise not at all."""
VALUES_SHOWN = 4
_NUMBER = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,30})?(e[+-]?[0-9]{1,2})?", re.IGNORECASE)
"""What Python and a browser both read as the same finite number."""

Pairs = tuple[tuple[str, str], ...]
"""Names and values, as a person reads them."""


def parameters(record: Record) -> Pairs:
    """Return every sampling parameter of a row, in words."""
    return (
        (WORDS["num_inference_steps"], str(record.num_inference_steps)),
        (WORDS["guidance_scale"], short(record.guidance_scale)),
        (WORDS["guidance_rescale"], short(record.guidance_rescale)),
        (WORDS["eta"], short(record.eta)),
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
    names = (name for name in sorted(PARAMETER_NAMES) if fields.get(name) is not None)
    return tuple((_in_words(name), _as_text(fields[name])) for name in names)


def _in_words(name: str) -> str:
    return WORDS.get(name) or name.replace("_", " ").capitalize()


def field_of(words: str) -> str:
    """Return what requests call a parameter, or nothing where that is the same word."""
    return next((name for name, known in WORDS.items() if known == words and name != words.lower()), "")


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return short(value)
    if isinstance(value, list):
        return "given"  # trained_betas are a thousand numbers
    return _VALUES.get(str(value), str(value))


@dataclass(slots=True)
class Facet:
    """The values of one parameter in a run, counted as far as they are few."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    images: int = 0
    """How many have a value."""
    too_many: bool = False
    """Whether there are more values than ``counts`` holds."""
    numeric: bool = True
    low: float = float("inf")
    high: float = float("-inf")

    def add(self, value: str) -> None:
        """Count one image with this value."""
        self.images += 1
        if value in self.counts:
            self.counts[value] += 1
            return
        if _NUMBER.fullmatch(value):
            self.low, self.high = min(self.low, float(value)), max(self.high, float(value))
        else:
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
