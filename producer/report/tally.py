"""What a report adds up over all rows of a run, in memory that does not grow with their texts."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from ddim_core.contracts.record import SUCCESS, Record
from producer.report.facets import Facet, Pairs
from producer.report.labels import LabelTally, labels_of

REASON_LIMIT = 20
IDS_PER_REASON = 50
REASONS_KEPT = 1000
"""A message may hold a number of its own for each image; past this limit reasons are counted by their code."""
_MANY = "with many different messages"
_SEARCH_CHARS = 80


@dataclass(slots=True)
class Reason:
    """Why some images could not be made."""

    code: str
    message: str
    count: int = 0
    custom_ids: dict[str, None] = field(default_factory=dict)
    """The first of them, without repetitions, in their order."""

    @property
    def search(self) -> str:
        """What finds these images in the report."""
        return self.code if self.message == _MANY else f"{self.code}: {self.message}"[:_SEARCH_CHARS]

    def add(self, custom_id: str) -> None:
        """Count one more image that failed for this reason."""
        self.count += 1
        if len(self.custom_ids) < IDS_PER_REASON:
            self.custom_ids[custom_id] = None


@dataclass(slots=True)
class RowTally:
    """Counts, times and reasons of the rows that it was given."""

    facets: dict[str, Facet] = field(default_factory=dict)
    reasons: dict[tuple[str, str], Reason] = field(default_factory=dict)
    image_seconds: array[float] = field(default_factory=lambda: array("d"))
    """From admission to the decoded image; eight bytes an image."""
    hardware: dict[tuple[str, str], str] = field(default_factory=dict)
    """What the devices are, by worker and device."""

    labels: LabelTally = field(default_factory=LabelTally)

    def add(self, record: Record, parameters: Pairs) -> None:
        """Take one row in."""
        self.labels.add(labels_of(record))
        for name, value in parameters:
            self.facets.setdefault(name, Facet(name)).add(value)
        self.hardware[record.worker, record.device] = f"{record.device_kind}, {record.dtype}, {record.slots} slots"
        if record.status == SUCCESS:
            self.image_seconds.append(record.seconds)
        else:
            self._reason(record).add(record.custom_id)

    def commonest_reasons(self) -> list[Reason]:
        """Return the reasons that most images failed for, commonest first."""
        return sorted(self.reasons.values(), key=lambda reason: -reason.count)[:REASON_LIMIT]

    def filters(self) -> list[Facet]:
        """Return the parameters that tell images of this run apart."""
        return [facet for facet in self.facets.values() if facet.kind is not None]

    def _reason(self, record: Record) -> Reason:
        why = (record.error_code or "unknown", record.error_message or "")
        if why not in self.reasons and len(self.reasons) >= REASONS_KEPT:
            why = (why[0], _MANY)
        return self.reasons.setdefault(why, Reason(*why))
