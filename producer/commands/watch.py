"""``ddim-fleet watch``: follow a run until it ends."""

from __future__ import annotations

import click

from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.commands.options import broker_option
from producer.display import exit_code, follow, summary
from producer.images.hint import how_to_see
from producer.runs.progress import RunProgress


@click.command("watch")
@click.argument("run_url")
@broker_option
def command(run_url: str, *, broker: str | None) -> int:
    """Follow the run at RUN_URL until it ends: images made, images/s, time left. Exits as `run` does."""
    status = follow(RunProgress(RunFolder(run_url), Broker(broker)).read)
    click.echo(summary(status))
    if see := how_to_see(status):
        click.echo(f"to see the images: {see}", err=True)
    return exit_code(status)
