"""``ddim-fleet drain``: take a host, or one of its devices, out of service."""

from __future__ import annotations

import time

import click

from ddim_core.contracts.hosts import checked_place
from ddim_core.errors import InputError
from producer.broker import Broker
from producer.commands.options import broker_option
from producer.fleet.hosts import Fleet

_POLL_S = 0.5


@click.command("drain")
@click.argument("place", metavar="HOST[/DEVICE]")
@click.option("--now", "at_once", is_flag=True, help="Have chunks in hand given back instead of finished.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Return when nothing is served there any more.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to wait at most; default: no limit.")
@click.option("--reason", default="drained by command", show_default=True, help="What status says of it.")
@broker_option
def command(place: str, **options: object) -> None:
    """Take HOST out of service, or one device of it, such as node7 or node7/npu:3.

    Chunks in hand are finished, no others taken. A drained host's workers end with exit code 0, and do nothing if they
    are started again, until `ddim-fleet uncordon` puts the host back. A drained device's host serves its others.
    """
    _drain(Fleet(Broker(options.pop("broker"))), checked_place(place), **options)  # type: ignore[arg-type]


def _drain(fleet: Fleet, place: str, *, at_once: bool, wait: bool, timeout_s: float | None, reason: str) -> None:
    known = fleet.places()
    if place not in known:
        raise InputError(f"{place!r} must be a host or device that is served, such as {_some(known)}")
    fleet.cordon(place, reason, now=at_once)
    click.echo(f"{place} takes no more chunks", err=True)
    if wait:
        _wait_until_empty(fleet, place, timeout_s)
    click.echo(f"to put it back: ddim-fleet uncordon {place}", err=True)


def _wait_until_empty(fleet: Fleet, place: str, timeout_s: float | None) -> None:
    """Wait, saying what is left whenever that changes.

    Raises:
        HostError: It took too long; the mark stays, and so what was asked for goes on.
    """
    began, said = time.monotonic(), ""
    while left := fleet.serving(place):
        if (line := f"still there: {', '.join(left)}") != said:
            click.echo(line, err=True)
            said = line
        if timeout_s is not None and time.monotonic() - began > timeout_s:
            raise fleet.still_serving(place, timeout_s)
        time.sleep(_POLL_S)
    click.echo(f"{place} is drained", err=True)


def _some(places: set[str]) -> str:
    return ", ".join(sorted(places)[:6]) or "none: no host reports to this broker"
