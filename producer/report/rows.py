"""The rows of a run that a report shows: the first images, and the failures by reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.storage.run_folder import RunFolder
from producer.report.facts import RunFacts

IMAGE_LIMIT = 500
FAILURE_CARD_LIMIT = 100
REASON_LIMIT = 20
IDS_PER_REASON = 50
VALUES_SHOWN = 4


@dataclass(slots=True)
class Reason:
    """Why some images could not be made."""

    error_class: str
    message: str
    count: int = 0
    custom_ids: list[str] = field(default_factory=list)
    """The first of them, without repetitions."""

    def add(self, record: Record) -> None:
        """Count one more image that failed for this reason."""
        self.count += 1
        if len(self.custom_ids) < IDS_PER_REASON and record.custom_id not in self.custom_ids:
            self.custom_ids.append(record.custom_id)


@dataclass(slots=True)
class Rows:
    """What a report shows of the rows, and how much it leaves out."""

    made: list[Record] = field(default_factory=list)
    failed: list[Record] = field(default_factory=list)
    reasons: dict[tuple[str, str], Reason] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take a row in, as far as there is room for it."""
        if record.status == SUCCESS:
            if len(self.made) < IMAGE_LIMIT:
                self.made.append(record)
            return
        why = (record.error_class or "unknown", record.error_message or "")
        self.reasons.setdefault(why, Reason(*why)).add(record)
        if len(self.failed) < FAILURE_CARD_LIMIT:
            self.failed.append(record)

    def shown(self) -> list[Record]:
        """Return the rows that become cards, in the order of their keys."""
        return sorted([*self.made, *self.failed], key=lambda record: record.key)

    def commonest_reasons(self) -> list[Reason]:
        """Return the reasons that most images failed for, commonest first."""
        return sorted(self.reasons.values(), key=lambda reason: -reason.count)[:REASON_LIMIT]


def read_rows(folder: RunFolder, facts: RunFacts) -> Rows:
    """Read the parts that hold the first images or a failure, and no others: a run may have thousands.

    Raises:
        StorageError: The store failed, or a part is damaged.
    """
    rows = Rows()
    for stats in facts.stats:
        if stats.failed or len(rows.made) < IMAGE_LIMIT:
            for record in folder.read_records(stats.chunk):
                rows.add(record)
    return rows


def parameters(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield name and values of each sampling parameter, as the rows have them."""
    wanted: dict[str, Callable[[Record], float | str]] = {
        "Size": lambda record: f"{record.width} x {record.height}",
        "Steps": lambda record: record.num_inference_steps,
        "Guidance scale": lambda record: record.guidance_scale,
        "Guidance rescale": lambda record: record.guidance_rescale,
        "Eta": lambda record: record.eta,
        "Device": lambda record: record.device_kind,
        "Precision": lambda record: record.dtype,
    }
    for name, value_of in wanted.items():
        if records:
            yield name, _values(value_of(record) for record in records)


def _values(values: Iterable[float | str]) -> str:
    """Return the distinct values, in full where they are few."""
    distinct = set(values)
    numbers = sorted(value for value in distinct if not isinstance(value, str))
    words = sorted(value for value in distinct if isinstance(value, str))
    texts = [*(f"{number:g}" for number in numbers), *words]
    return ", ".join(texts) if len(texts) <= VALUES_SHOWN else f"{texts[0]} to {texts[-1]} ({len(texts)} values)"
