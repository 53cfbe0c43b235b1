"""``ddim-fleet uncordon``: put a host or a device back into service."""

from __future__ import annotations

import click

from ddim_core.contracts.hosts import checked_place
from ddim_core.errors import InputError
from producer.broker import Broker
from producer.commands.options import broker_option
from producer.fleet.hosts import Fleet


@click.command("uncordon")
@click.argument("place", metavar="HOST[/DEVICE]")
@broker_option
def command(place: str, broker: str | None) -> None:
    """Put HOST, or one device of it, back into service: drained by command, or given up by its own supervisor.

    A host's workers begin again within seconds if their supervisor still runs; else start that.
    """
    fleet = Fleet(Broker(broker))
    if not fleet.uncordon(checked_place(place)):
        out = ", ".join(sorted(fleet.cordons())) or "none"
        raise InputError(f"{place!r} must be out of service to be put back, and what is out of service is: {out}")
    click.echo(f"{place} is back in service", err=True)
