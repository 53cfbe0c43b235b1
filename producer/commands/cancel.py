"""``ddim-fleet cancel``: stop a run."""

from __future__ import annotations

import click

from ddim_core.storage.run_folder import RunFolder
from producer.runs.control import cancel


@click.command("cancel")
@click.argument("run_url")
def command(run_url: str) -> None:
    """Stop the run at RUN_URL; what is finished of it is kept.

    Only the store is told. Workers stop within seconds, in the middle of a chunk, too, and drop what is queued.
    `ddim-fleet resume` goes on with the rest.
    """
    folder = RunFolder(run_url)
    plan = folder.read_plan()
    if not cancel(folder):
        click.echo(f"nothing to cancel: {folder.url} is finished", err=True)
        return
    done = len(folder.committed_chunks())
    click.echo(f"cancelled {folder.url}; {done} of {plan.chunk_count} chunks are done and kept", err=True)
    click.echo(f"to go on with it: ddim-fleet resume {folder.url}", err=True)
