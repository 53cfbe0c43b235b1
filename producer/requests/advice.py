"""What a person should know of a model before a run: the settings that it recommends, and sizes that it draws badly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ddim_core.contracts.sample import Size
from producer.requests.model import Model

# With the small checkpoint, things are drawn twice, torn or cut off from 1.5 times the pixels on, and at 0.56 of them
# (docs/checkpoint.md). Stable Diffusion XL was trained with sides of 0.5 to 2 times its default one.
_FEWEST_PIXELS, _MOST_PIXELS = 0.6, 1.5
_SHORTEST_SIDE, _LONGEST_SIDE = 0.5, 2.0
_SIZES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Advice:
    """It holds for a run as a whole, and is given once."""

    recommended: Mapping[str, Any] = field(default_factory=dict)
    """Fields of requests that have the model's recommendation where a request does not say otherwise."""
    warnings: tuple[str, ...] = ()
    model: str = ""

    def lines(self) -> list[str]:
        """Return it for a person."""
        lines = [f"warning: {warning}" for warning in self.warnings]
        if self.recommended:
            lines.insert(0, f"{self.model} recommends {self.settings()}")
        return lines

    def settings(self) -> str:
        """Return the recommended settings for a person, and how to have others."""
        words = ", ".join(words_of_settings(self.recommended))
        return f"{words}, where neither the command nor a request says otherwise (--settings diffusers: not at all)"


def advice_on(model: Model, sizes: Mapping[Size, int]) -> Advice:
    """Return what there is to say of a model's images of these sizes, given the number of each."""
    trained = Size(
        model.recommended.get("height", model.default_height), model.recommended.get("width", model.default_width)
    )
    far = [size for size in sizes if not model.fixed_size and _is_far(size, trained)]
    warnings: tuple[str, ...] = ()
    if far:
        shown = ", ".join(map(str, far[:_SIZES_SHOWN])) + (", ..." if len(far) > _SIZES_SHOWN else "")
        count = sum(sizes[size] for size in far)
        images = "1 image is" if count == 1 else f"{count:,} images are"
        warnings = (
            f"{images} of a size ({shown}) far from {trained}, which {model.name} was trained for: such pictures tend "
            "to show things twice or cut off",
        )
    return Advice(model.recommended, warnings, model.name)


def _is_far(size: Size, trained: Size) -> bool:
    height, width = size.height / trained.height, size.width / trained.width
    sides = all(_SHORTEST_SIDE <= side <= _LONGEST_SIDE for side in (height, width))
    return not sides or not _FEWEST_PIXELS < height * width < _MOST_PIXELS


def words_of_settings(settings: Mapping[str, Any]) -> list[str]:
    """Return fields of requests and their values for a person, parameters of the scheduler one by one."""
    words = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            words += words_of_settings({f"{name}.{parameter}": each for parameter, each in value.items()})
        else:
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return words
