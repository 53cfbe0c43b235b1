"""``ddim-fleet extend``: add requests to a run."""

from __future__ import annotations

import os
from typing import Any

import click

from ddim_core.contracts.limits import read_limits
from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.commands.broker_advice import warn_of
from producer.commands.options import broker_option, defaults_of, lists_of, request_options
from producer.inputs import read_rows, source_of
from producer.runs.extension import More, extend
from producer.words import counted


@click.command("extend")
@click.argument("run_url")
@click.argument("prompts", nargs=-1, required=True)
@request_options
@click.option("--take-over", is_flag=True, help="Also where another command began to extend the run and died.")
@broker_option
def command(run_url: str, prompts: tuple[str, ...], *, take_over: bool, broker: str | None, **given: Any) -> None:
    """Add the requests in PROMPTS to the run at RUN_URL, finished or not, and queue them for the workers.

    They get the run's model, format and chunk size, and its defaults; options such as --num-inference-steps hold in
    place of those. No custom_id may be one that the run has.
    """
    folder = RunFolder(run_url)
    more = More(read_rows(*prompts), source_of(*prompts), defaults_of(given), lists_of(given), read_limits(os.environ))
    connection = Broker(broker)
    added = extend(folder, more, connection, take_over=take_over)
    warn_of(connection)
    images, chunks = counted(added.image_count, "image"), counted(added.chunk_count, "chunk")
    click.echo(f"added {images} in {chunks} to {folder.url}", err=True)
    if (halted := folder.halted()) is not None:
        click.echo(f"the run is {halted}; to go on with it: ddim-fleet resume {folder.url}", err=True)
