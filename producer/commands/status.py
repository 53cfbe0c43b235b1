"""``ddim-fleet status``: print how far a run is."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ddim_core.errors import BrokerError
from ddim_core.hiding import without_controls, without_passwords
from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.commands.options import broker_option
from producer.display import status_table
from producer.fleet.hosts import Fleet
from producer.fleet.view import FleetView
from producer.images.hint import how_to_see
from producer.runs.progress import RunProgress, RunStatus


@click.command("status")
@click.argument("run_url", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.option("--workers", "with_workers", is_flag=True, help="Print what each worker on the broker is at, too.")
@broker_option
def command(run_url: str | None, *, as_json: bool, with_workers: bool, broker: str | None) -> None:
    """Print how far the run at RUN_URL is. Without Redis, from the store alone.

    Without RUN_URL: what each host and worker on the broker is at. What is out of service is said either way.
    """
    connection = Broker(broker)
    status = None if run_url is None else RunProgress(RunFolder(run_url), connection).read()
    in_full = with_workers or status is None
    fleet = _fleet(connection, in_full=in_full)
    if as_json:
        click.echo(json.dumps({**(asdict(status) if status else {}), **fleet.as_json(in_full=in_full)}))
    else:
        blocks = [_table(status) if status else "", str(fleet) if in_full else fleet.trouble()]
        click.echo("\n\n".join(without_controls(without_passwords(block)) for block in blocks if block))


def _table(status: RunStatus) -> str:
    see = how_to_see(status) if status.is_over else ""
    return f"{status_table(status)}\npictures   {see}" if see else status_table(status)


def _fleet(connection: Broker, *, in_full: bool) -> FleetView:
    fleet = Fleet(connection)
    try:
        return FleetView(fleet.hosts(), fleet.cordons(), connection.at_work() if in_full else [])
    except BrokerError:
        if in_full:
            raise
        return FleetView([], {}, [])  # the run's own status needs no Redis
