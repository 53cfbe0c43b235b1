"""What a report's page holds itself, gathered while the rows of the run go by."""

from __future__ import annotations

from dataclasses import dataclass, field

from producer.report.beside import PAGE_CARDS
from producer.report.cards import Card
from producer.report.tally import RowTally


@dataclass(slots=True)
class Contents:
    """The first cards of a run, and counts of all."""

    folder: str
    """Of the files beside the page."""
    cards: list[Card] = field(default_factory=list)
    count: int = 0
    missing: int = 0
    """Images that were made and cannot be shown."""
    tally: RowTally = field(default_factory=RowTally)

    def add(self, card: Card) -> None:
        """Count a card, and keep it if it is among the first."""
        self.count += 1
        self.missing += card.status == "missing"
        if len(self.cards) < PAGE_CARDS:
            self.cards.append(card)
