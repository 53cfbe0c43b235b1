"""``ddim-fleet verify``: is a finished run still what its manifest says?"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ddim_core.storage.run_folder import RunFolder
from producer.display import counted
from producer.verify import RunCheck

FAULTY = 3


@click.command("verify")
@click.argument("run_url")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def command(run_url: str, *, as_json: bool) -> int:
    """Compare every file of the finished run at RUN_URL with its manifest, and every row with its image.

    Names each fault in a line: what is missing, cut short, changed, too much, or twice there. Exits with 0 if there is
    none and with 3 otherwise; with 1 where there is no run, or one without a manifest yet.
    """
    check = RunCheck(RunFolder(run_url))
    return _as_json(check) if as_json else _as_lines(check)


def _as_lines(check: RunCheck) -> int:
    count = 0
    for fault in check.faults():
        click.echo(str(fault))
        count += 1
    files = counted(len(check.manifest.files), "file")
    looked_at = f"{files}, {check.size_bytes / 1e6:.1f} MB, {counted(check.manifest.images, 'image')}"
    click.echo(f"{counted(count, 'fault')} in {looked_at}" if count else f"sound: {looked_at}")
    return FAULTY if count else 0


def _as_json(check: RunCheck) -> int:
    faults = [asdict(fault) for fault in check.faults()]
    facts = {
        "run_url": check.url,
        "run_id": check.plan.run_id,
        "sound": not faults,
        "files": len(check.manifest.files),
        "size_bytes": check.size_bytes,
        "images": check.manifest.images,
        "faults": faults,
    }
    click.echo(json.dumps(facts))
    return FAULTY if faults else 0
