"""``ddim-fleet report``: write a run's report."""

from __future__ import annotations

import click

from producer.report import write_report
from producer.words import shown


@click.command("report")
@click.argument("run_url")
@click.option("--out", metavar="DIR", help="A folder, or an s3:// URL, for the report instead of the run's own folder.")
def command(run_url: str, *, out: str | None) -> None:
    """Write the report of the run at RUN_URL, finished or not, and print where its page is.

    The page is report.html; all rows and thumbnails lie beside it in the folder report. It opens without a server.
    Every image of the run is read once, for its thumbnail: a run in a bucket is downloaded.
    """
    click.echo(shown(write_report(run_url, out=out)))
