"""``ddim-fleet models``: the checkpoints that there are, and how to come to one."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import click

from ddim_core.hiding import without_controls
from producer.broker import Broker
from producer.checkpoints.conversion import convert
from producer.checkpoints.listing import checkpoints_here, checkpoints_of_fleet
from producer.commands.options import broker_option


@click.group("models", invoke_without_command=True)
@click.option("--models", multiple=True, metavar="DIR", help="A checkpoint's folder, or one that holds some.")
@click.option("--fleet", is_flag=True, help="What the hosts of all workers on the broker have, in place of this one's.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@broker_option
@click.pass_context
def command(
    context: click.Context, /, models: tuple[str, ...], *, fleet: bool, as_json: bool, broker: str | None
) -> int | None:
    """List the checkpoints that this host has, or a fleet: their kind, digest and sizes, and what requests they take.

    What cannot be used is listed with the reason. On this host all weights are read, for their digests; a fleet's
    workers tell the digests of those that they have read.
    """
    if context.invoked_subcommand is not None:
        return None
    if fleet and models:
        raise click.UsageError("--models must stand without --fleet: workers look where they were told to.", context)
    listed = checkpoints_of_fleet(Broker(broker).workers()) if fleet else checkpoints_here(models)
    if as_json:
        click.echo(json.dumps({"checkpoints": [one.as_json() for one in listed]}))
    else:
        click.echo(
            "\n\n".join(without_controls(str(one)) for one in listed) or "no worker reports a checkpoint to this broker"
        )
    return None


@command.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--like", required=True, metavar="DIR", help="A checkpoint of the same kind; it needs no weights.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The new folder.")
def convert_command(file: Path, like: str, out: Path) -> None:
    """Make a checkpoint folder of FILE, a single .safetensors with all weights of a Stable Diffusion 1, 2 or XL.

    Such a file holds neither configurations nor tokenizer: --like gives them. Nothing is downloaded, and the weights
    stay as they are, bit by bit. The folder appears whole or not at all.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing half-made is left then, either
    click.echo(f"converting {file}; this starts MindSpore, and reads and writes all weights", err=True)
    found = convert(file, like, out)
    click.echo(f"digest: {found}", err=True)
    click.echo(str(out))
