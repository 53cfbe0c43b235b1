"""``ddim-fleet report``: write a run's report."""

from __future__ import annotations

import click

from producer.display import shown
from producer.report import write_report


@click.command("report")
@click.argument("run_url")
def command(run_url: str) -> None:
    """Write the report of the run at RUN_URL, finished or not, as one web page in its folder, and print where it is."""
    click.echo(shown(write_report(run_url)))
