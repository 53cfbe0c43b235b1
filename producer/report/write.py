"""Writing a run's report: its rows and thumbnails go by once, then comes the page that shows them."""

from __future__ import annotations

from collections.abc import Iterator

from ddim_core.contracts.record import SUCCESS
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import REPORT, RunFolder
from producer.report.beside import Beside
from producer.report.cards import Card, card_of
from producer.report.contents import Contents
from producer.report.facets import parameters
from producer.report.facts import RunFacts, read_facts
from producer.report.pictures import PictureReader
from producer.report.render import render
from producer.report.tally import RowTally


def write_report(run_url: str, *, out: str | None = None) -> str:
    """Write ``report.html`` and the folder ``report`` into a run's folder, or into ``out``; return the page's URL.

    The run need not be whole: the page says how far it is. Memory holds a chunk's rows and thumbnails and the page
    itself, however large the run. Writing again replaces the report; the page comes last and is never half there.

    Raises:
        RunNotFoundError: There is no run at ``run_url``.
        OutputError: ``out`` cannot be written to.
        StorageError: The store failed, or a file of the run is damaged.
    """
    folder = RunFolder(run_url)
    facts = read_facts(folder)
    target = folder.store if out is None else ObjectStore(out)
    if out is not None:
        target.check_writable()
    with Beside(target, facts.edition) as beside:
        contents = Contents(beside.folder)
        for card in _cards(folder, facts, contents.tally):
            contents.add(card)
            beside.add(card)
        beside.finish()
        page = render(facts, contents, links=target.url == folder.url)
        target.put(REPORT, page.encode(errors="replace"))
        beside.delete_others()
    return f"{target.url}/{REPORT}"


def _cards(folder: RunFolder, facts: RunFacts, tally: RowTally) -> Iterator[Card]:
    """Yield the cards of all rows in the order of their keys, a chunk in memory at a time."""
    with PictureReader(folder.store) as reader:
        for stats in facts.stats:
            records = folder.read_records(stats.chunk)
            pictures = reader.read([record for record in records if record.status == SUCCESS])
            for record in records:
                named = parameters(record)
                tally.add(record, named)
                yield card_of(record, named, pictures)
