"""What a command that queues work says of a Redis that took it and may lose it."""

from __future__ import annotations

from contextlib import suppress

import click

from ddim_core.errors import BrokerError
from producer.broker import Broker


def warn_of(broker: Broker) -> None:
    """Print what to mend of a Redis, a line each, on standard error; one that is gone by now is no news here."""
    with suppress(BrokerError):
        for one in broker.advice():
            click.echo(f"warning: {one}", err=True)
