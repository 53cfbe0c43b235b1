"""``ddim-fleet worker``: become the supervisor of this host's workers."""

from __future__ import annotations

import os
import sys

import click

from producer.local.die_with_parent import safe_path


@click.command("worker", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Serve this host's devices; the arguments are those of `python -m workers`."""
    # The producer never imports the workers, and signals must reach the supervisor with no parent between.
    environment = {**os.environ, **safe_path()}
    os.execve(sys.executable, [sys.executable, "-m", "workers", *arguments], environment)  # noqa: S606
