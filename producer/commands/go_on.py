"""``ddim-fleet continue``: go on with a run that was paused."""

from __future__ import annotations

import click

from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.commands.options import broker_option
from producer.runs.control import go_on


@click.command("continue")
@click.argument("run_url")
@broker_option
def command(run_url: str, *, broker: str | None) -> None:
    """Go on with the run at RUN_URL, which was paused.

    Workers that know the run go on by themselves, also where Redis does not answer to this command.
    """
    folder = RunFolder(run_url)
    if go_on(folder, Broker(broker)):
        click.echo(f"going on with {folder.url}", err=True)
    else:
        click.echo(f"nothing to go on with: {folder.url} is not paused", err=True)
