"""``ddim-fleet doctor``: what is missing on this host."""

from __future__ import annotations

import os

import click

from ddim_core.broker_url import secrets_of
from ddim_core.hiding import without_secrets
from producer.commands.options import broker_option
from producer.local.doctor import Finding, examine

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@broker_option
@click.option("--out", metavar="URL", help="A store to try to write to.")
def command(broker: str | None, out: str | None) -> int:
    """Look at Python, MindSpore, devices, Redis and the output, and say what to mend.

    Exits with 2 if something has to be mended, otherwise with 0.
    """
    failed, secrets = False, secrets_of(os.environ, broker or "")
    for finding in examine(os.environ, broker, out):
        failed |= finding.verdict == "fail"
        click.echo(without_secrets(_line(finding), secrets))
    return 2 if failed else 0


def _line(finding: Finding) -> str:
    verdict = click.style(f"{finding.verdict:<5}", fg=_COLOURS[finding.verdict])
    line = f"{verdict} {finding.what:<14} {finding.found}"
    return f"{line}\n{'':<20} -> {finding.remedy}" if finding.remedy else line
