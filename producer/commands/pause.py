"""``ddim-fleet pause``: have workers leave a run alone for a while."""

from __future__ import annotations

import click

from ddim_core.storage.run_folder import RunFolder
from producer.runs.control import pause


@click.command("pause")
@click.argument("run_url")
def command(run_url: str) -> None:
    """Have workers leave the run at RUN_URL alone for a while; other runs go on, and what is finished of it is kept.

    Only the store is told. Workers give back what they have in hand of it within seconds. `ddim-fleet continue` goes
    on with it.
    """
    folder = RunFolder(run_url)
    if not pause(folder):
        click.echo(f"nothing to pause: {folder.url} is finished or cancelled", err=True)
        return
    click.echo(f"paused {folder.url}", err=True)
    click.echo(f"to go on with it: ddim-fleet continue {folder.url}", err=True)
