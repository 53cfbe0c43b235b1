"""``ddim-fleet resume``: queue what is missing of a run."""

from __future__ import annotations

import click

from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.commands.broker_advice import warn_of
from producer.commands.options import broker_option
from producer.runs.control import resume
from producer.runs.failures import retry_failed
from producer.words import counted


@click.command("resume")
@click.argument("run_url")
@click.option("--failed", is_flag=True, help="Make failed images again, too; good ones stay as they are.")
@broker_option
def command(run_url: str, *, failed: bool, broker: str | None) -> None:
    """Queue the chunks of the run at RUN_URL that are not in its store yet; what is there stays as it is."""
    folder, connection = RunFolder(run_url), Broker(broker)
    if failed:
        images = retry_failed(folder, connection)
        warn_of(connection)
        line = f"{counted(images, 'failed image')} of {folder.url} will be made again"
        click.echo(line if images else f"no failed image in {folder.url}", err=True)
        return
    count = resume(folder, connection)
    warn_of(connection)
    click.echo(
        f"queued {counted(count, 'chunk')} of {folder.url}" if count else f"nothing to queue of {folder.url}", err=True
    )
