"""``ddim-fleet status``: print how far a run is."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.commands.options import broker_option
from producer.display import status_table
from producer.progress import RunProgress


@click.command("status")
@click.argument("run_url")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@broker_option
def command(run_url: str, *, as_json: bool, broker: str | None) -> None:
    """Print how far the run at RUN_URL is. Without Redis, from the store alone."""
    status = RunProgress(RunFolder(run_url), Broker(broker)).read()
    click.echo(json.dumps(asdict(status)) if as_json else status_table(status))
