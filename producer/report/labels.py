"""What images were labelled with: the metadata of their requests, which may hold anything, as filters and on cards."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from ddim_core.contracts.record import Record
from producer.report.facets import Facet, Pairs
from producer.report.wording import cut

NAME_LIMIT_CHARS = 80
VALUE_LIMIT_CHARS = 200
ON_A_CARD = 20
"""Fields of an image that the report knows; all stand in the run's parts."""
FIELDS_COUNTED = 200
"""Names of fields may be as many as images; those that are met first are counted."""
MAX_FILTERS = 12
FIELDS_SHOWN = 20


def labels_of(record: Record) -> Pairs:
    """Return a row's metadata as names and texts, as far as a card has room."""
    pairs = islice(record.metadata.items(), ON_A_CARD)
    return tuple((cut(name, NAME_LIMIT_CHARS), _text(value)) for name, value in pairs)


def _text(value: object) -> str:
    return cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), VALUE_LIMIT_CHARS)


@dataclass(slots=True)
class LabelTally:
    """The values that metadata have in a run, counted in memory that does not grow with it."""

    facets: dict[str, Facet] = field(default_factory=dict)
    images: int = 0
    more: bool = False
    """Whether there are more fields than are counted."""

    def add(self, labels: Pairs) -> None:
        """Take in one image's."""
        self.images += 1
        for name, value in labels:
            if name in self.facets or len(self.facets) < FIELDS_COUNTED:
                self.facets.setdefault(name, Facet(name)).add(value)
            else:
                self.more = True

    def without(self, facet: Facet) -> int:
        """Return how many images lack a field."""
        return self.images - facet.images

    def filters(self) -> list[Facet]:
        """Return the fields that a reader can choose by, those that most images have first."""
        return self._useful()[:MAX_FILTERS]

    def searched(self) -> list[str]:
        """Return fields that tell images apart and are not among the filters, for who looks for them there."""
        shown = {facet.name for facet in self.filters()}
        return [facet.name for facet in self.facets.values() if self._differs(facet) and facet.name not in shown]

    def shown(self) -> list[Facet]:
        """Return the fields that most images have."""
        return self._commonest(self.facets.values())[:FIELDS_SHOWN]

    def _useful(self) -> list[Facet]:
        return self._commonest(
            facet for facet in self.facets.values() if self._differs(facet) and (facet.numeric or not facet.too_many)
        )

    def _differs(self, facet: Facet) -> bool:
        return facet.varies or self.without(facet) > 0

    @staticmethod
    def _commonest(facets: Iterable[Facet]) -> list[Facet]:
        return sorted(facets, key=lambda facet: -facet.images)
