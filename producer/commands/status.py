"""``ddim-fleet status``: print how far a run is."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ddim_core.hiding import without_controls
from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.commands.options import broker_option
from producer.display import status_table
from producer.fleet_view import workers_table
from producer.progress import RunProgress


@click.command("status")
@click.argument("run_url")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.option("--workers", "with_workers", is_flag=True, help="Print what each worker on the broker is at, too.")
@broker_option
def command(run_url: str, *, as_json: bool, with_workers: bool, broker: str | None) -> None:
    """Print how far the run at RUN_URL is. Without Redis, from the store alone."""
    connection = Broker(broker)
    status = RunProgress(RunFolder(run_url), connection).read()
    reports = connection.workers() if with_workers else []
    if as_json:
        workers = {"worker_reports": [report.model_dump() for report in reports]} if with_workers else {}
        click.echo(json.dumps({**asdict(status), **workers}))
    else:
        click.echo(status_table(status))
        if with_workers:
            click.echo(f"\n{without_controls(workers_table(reports))}")
