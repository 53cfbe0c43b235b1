"""The classes of a class-conditional checkpoint: their number, and their names where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ddim_core.errors import CheckpointError, InputError


@dataclass(frozen=True, slots=True)
class ClassLabels:
    """Classes from 0 to ``count - 1``."""

    count: int
    names: Mapping[int, str] = field(default_factory=dict)
    """A name may hold several, separated by commas, as those of ImageNet do: ``tench, Tinca tinca``."""

    def index(self, label: int | str, model: str) -> int:
        """Return the class that a request names, by its index or by one of its names.

        Raises:
            InputError: There is none, or several share the name; the message is the rule that the label breaks.
        """
        if isinstance(label, str):
            matches = self._named(label.strip())
            if len(matches) > 1:
                shared = " and ".join(map(str, matches))
                raise InputError(f"must name one class of {model}, got {label!r}, which {shared} share")
            if matches:
                return matches[0]
        number = int(label) if isinstance(label, int) or label.strip().isdecimal() else -1
        if not 0 <= number < self.count:
            known = " or one of its labels" if self.names else ""
            raise InputError(f"must be from 0 to {self.count - 1}{known} with {model}, got {label}{self._meant(label)}")
        return number

    def caption(self, index: int) -> str:
        """Return what a picture of a class is said to show: its name, or ``class 207`` where it has none."""
        return self.names.get(index, f"class {index}")

    def _named(self, name: str) -> list[int]:
        return sorted(index for index, names in self.names.items() if name == names or name in _synonyms(names))

    def _meant(self, label: int | str) -> str:
        known = [name for names in self.names.values() for name in _synonyms(names)]
        close = get_close_matches(label, known, n=1) if isinstance(label, str) else []
        return f"; did you mean {close[0]}?" if close else ""


def read_labels(config: Mapping[str, Any], index: Mapping[str, Any], place: str) -> ClassLabels:
    """Return the classes of a transformer's configuration, with the names that ``id2label`` of model_index.json gives.

    Raises:
        CheckpointError: The number of classes is none, or a name belongs to no class.
    """
    count = config.get("num_embeds_ada_norm")
    if not isinstance(count, int) or count < 1:
        raise CheckpointError(f"num_embeds_ada_norm must be a number of classes, got {count!r} in {place}")
    names = index.get("id2label") or {}
    if not isinstance(names, dict) or not all(
        key.isdecimal() and int(key) < count and isinstance(name, str) and name.strip() for key, name in names.items()
    ):
        raise CheckpointError(
            f"id2label must give classes from 0 to {count - 1} a name each, got {names!r:.80} in {place}"
        )
    return ClassLabels(count, {int(key): name for key, name in names.items()})


def _synonyms(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]
