"""Writing a run's report: read the run, fill the page, put it into the run's folder."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ddim_core.contracts.record import SUCCESS, Record
from ddim_core.storage.run_folder import REPORT, RunFolder
from ddim_core.version import __version__
from producer.report.facts import RunFacts, moment, read_facts
from producer.report.pictures import Picture, PictureReader
from producer.report.rows import Rows, parameters, read_rows
from producer.report.speed import chunk_seconds, timeline, worker_speeds

_SCHEDULER_FIELDS = ("beta_schedule", "prediction_type", "timestep_spacing", "timestep_pairs", "rescale_betas_zero_snr")


@dataclass(frozen=True, slots=True)
class Card:
    """One image of the page, or one that could not be made."""

    record: Record
    picture: Picture | None
    fault: str | None
    """Why there is no picture."""

    @property
    def made(self) -> bool:
        """Whether the image is there and shown."""
        return self.picture is not None

    @property
    def search_text(self) -> str:
        """What the search box looks in."""
        record = self.record
        return f"{record.prompt} {record.custom_id} {record.key} {record.seed}".lower()


def write_report(run_url: str) -> str:
    """Write ``report.html`` into a run's folder, one file that needs no other, and return its URL.

    The run need not be whole: the page says how far it is. Writing again replaces the page.

    Raises:
        RunNotFoundError: There is no run at ``run_url``.
        StorageError: The store failed, or a file of the run is damaged.
    """
    folder = RunFolder(run_url)
    facts = read_facts(folder)
    rows = read_rows(folder, facts)
    page = render(facts, rows, _cards(PictureReader(folder), rows.shown()))
    folder.store.put(REPORT, page.encode(errors="replace"))
    return f"{folder.url}/{REPORT}"


def render(facts: RunFacts, rows: Rows, cards: Sequence[Card]) -> str:
    """Return the page. All text of the run is escaped; a policy in the page lets no script run but its own."""
    environment = Environment(
        loader=PackageLoader("producer.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, grouped=grouped, clock=clock)
    script = _own_text(environment, "page.js")
    return environment.get_template("page.html").render(
        facts=facts,
        rows=rows,
        cards=cards,
        parameters=list(parameters(rows.made)),
        scheduler=_scheduler(rows),
        speeds=worker_speeds(facts.stats),
        chunk_seconds=chunk_seconds(facts.stats),
        timeline=timeline(facts.stats),
        style=_own_text(environment, "page.css"),
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        written_at=clock(datetime.now(timezone.utc).isoformat()),
        version=__version__,
    )


def duration(seconds: float) -> str:
    """Return a length of time as a person says it."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def clock(text: str) -> str:
    """Return a time of a run's files to the minute, in UTC."""
    return moment(text).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def grouped(number: int) -> str:
    """Return a whole number with its thousands set apart by narrow spaces."""
    return f"{number:,}".replace(",", "\u202f")


def _cards(reader: PictureReader, records: Sequence[Record]) -> list[Card]:
    cards = []
    for record in records:
        found = reader.read(record) if record.status == SUCCESS else f"{record.error_class}: {record.error_message}"
        cards.append(Card(record, None, found) if isinstance(found, str) else Card(record, found, None))
    return cards


def _scheduler(rows: Rows) -> dict[str, str]:
    """Return what distinguishes the schedules of the images shown; most runs have one."""
    seen: dict[str, set[str]] = {}
    for text in {record.scheduler for record in rows.made}:
        for name, value in json.loads(text).items():
            if name in _SCHEDULER_FIELDS:
                seen.setdefault(name, set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in sorted(seen.items())}


def _own_text(environment: Environment, name: str) -> Markup:
    """Return a file that comes with the package, to stand in the page as it is."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704
