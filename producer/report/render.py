"""The page: templates filled with a run's facts, under a policy that lets no script in but its own."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ddim_core.version import __version__
from producer.report.beside import PAGE_CARDS, ROWS_PER_FILE, as_script
from producer.report.cards import LABELS_SHOWN, SUMMARY
from producer.report.contents import Contents
from producer.report.facets import Facet, field_of
from producer.report.facts import RunFacts
from producer.report.plots import StagePlot, rate_plot, stage_plot
from producer.report.speed import timeline, worker_speeds
from producer.report.tally import RowTally
from producer.report.wording import clock, duration, grouped, short

_IN_EVERY_CARD = ("Size", "Whole prompt", "Tokens", "Negative prompt", "Time", "Attempts", "Worker", "File")


def render(facts: RunFacts, contents: Contents, *, links: bool) -> str:
    """Return the page; with ``links``, thumbnails of images that are files lead to them, as seen from the run's folder.

    All text of the run is escaped. Scripts of the run's data run because the page's own script, known by its hash,
    asks for them, and for no other reason: that holds for files, for a bucket and for a web server.
    """
    environment = _environment()
    tally = contents.tally
    style, script = _own_text(environment, "page.css"), _own_text(environment, "page.js")
    details = _details(tally.facets)
    return environment.get_template("page.html").render(
        facts=facts,
        contents=contents,
        tally=tally,
        summary=SUMMARY,
        labels_shown=LABELS_SHOWN,
        details=details,
        links=links,
        speeds=worker_speeds(facts.stats),
        timeline=timeline(facts.stats),
        rate=rate_plot(facts.stats),
        stages=_stages(facts, tally),
        pages=-(-contents.count // PAGE_CARDS),
        style=style,
        style_digest=_digest(style),
        script=script,
        script_digest=_digest(script),
        settings=_settings(contents, details, links=links),
        version=__version__,
    )


def _stages(facts: RunFacts, tally: RowTally) -> StagePlot | None:
    return stage_plot(
        [
            ("Image, from admission to decoded", tally.image_seconds),
            ("Chunk, from taken to committed", [stats.seconds for stats in facts.stats]),
        ]
    )


def _settings(contents: Contents, details: list[str], *, links: bool) -> Markup:
    """Return what the page's script must know, as JSON that can stand in an element."""
    settings = {
        "count": contents.count,
        "pageCards": PAGE_CARDS,
        "rowsPerFile": ROWS_PER_FILE,
        "folder": contents.folder,
        "summary": SUMMARY,
        "labelsShown": LABELS_SHOWN,
        "details": details,
        "links": links,
    }
    return Markup(as_script(settings))  # noqa: S704 - as_script leaves no <, > or &


def _details(facets: dict[str, Facet]) -> list[str]:
    """Return what a card says when it is opened: what is always of interest, and parameters that vary in this run."""
    varying = [name for name, facet in facets.items() if facet.varies]
    names = dict.fromkeys((*_IN_EVERY_CARD[:1], *varying, *_IN_EVERY_CARD[1:]))
    return [name for name in names if name not in SUMMARY]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("producer.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(field_of=field_of, duration=duration, grouped=grouped, clock=clock, short=short)
    return environment


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _own_text(environment: Environment, name: str) -> Markup:
    """Return a file that comes with the package, to stand in the page as it is."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704
