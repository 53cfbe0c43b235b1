"""``ddim-fleet verify``: is a finished run still what its manifest says, and would it be made so again?"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import click
from click.core import ParameterSource

from ddim_core.hiding import without_controls
from ddim_core.storage.run_folder import RunFolder
from producer.commands.options import replay_options
from producer.display import counting
from producer.replay import Replayed, chosen_rows, compared, lines_of, made_again
from producer.verify import RunCheck
from producer.words import counted

FAULTY = 3
_SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Which images to make again, and on what."""

    count: int
    seed: int
    devices: str
    models: Sequence[str]


@click.command("verify")
@click.argument("run_url")
@click.option(
    "--replay", "count", type=click.IntRange(1), metavar="N", help="Also make N images again and compare their bytes."
)
@click.option(
    "--replay-seed", type=click.IntRange(0, _SEEDS - 1), help="Chooses the images. [default: another each time]"
)
@replay_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def command(
    run_url: str,
    *,
    count: int | None,
    replay_seed: int | None,
    devices: str,
    models: tuple[str, ...],
    as_json: bool,
) -> int:
    """Compare every file of the finished run at RUN_URL with its manifest, and every row with its image.

    Names each fault in a line: what is missing, cut short, changed, too much, or twice there. Exits with 0 if there is
    none and with 3 otherwise; with 1 where there is no run, or one without a manifest yet.

    With --replay, images chosen by chance are made again from their rows on this machine, if the files are sound. It
    counts as a fault if one differs though device kind, slots, precision, threads and versions are those of its row.
    """
    if count is None:
        _refuse_options_of_replay(click.get_current_context())
    folder = RunFolder(run_url)
    check = RunCheck(folder)
    seed = secrets.randbelow(_SEEDS) if replay_seed is None else replay_seed
    replay = ReplayOptions(count, seed, devices, models) if count else None
    return _as_json(check, folder, replay) if as_json else _as_lines(check, folder, replay)


def _refuse_options_of_replay(context: click.Context) -> None:
    for name in ("replay_seed", "devices", "models"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} must come with --replay.", context)


def _as_lines(check: RunCheck, folder: RunFolder, replay: ReplayOptions | None) -> int:
    count = 0
    for fault in check.faults():
        click.echo(without_controls(str(fault)))
        count += 1
    files = counted(len(check.manifest.files), "file")
    looked_at = f"{files}, {check.size_bytes / 1e6:.1f} MB, {counted(check.manifest.images, 'image')}"
    click.echo(f"{counted(count, 'fault')} in {looked_at}" if count else f"sound: {looked_at}")
    if count or replay is None:
        return FAULTY if count else 0
    click.echo(f"making {counted(replay.count, 'image')} again, chosen with --replay-seed {replay.seed}", err=True)
    results = _replayed(folder, replay)
    for line in lines_of(results):
        click.echo(line)
    same = sum(result.same_bytes for result in results)
    click.echo(f"made again: {counted(len(results), 'image')}, {same} with the same bytes, --replay-seed {replay.seed}")
    return FAULTY if any(result.is_fault for result in results) else 0


def _as_json(check: RunCheck, folder: RunFolder, replay: ReplayOptions | None) -> int:
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
    results = _replayed(folder, replay) if replay and not faults else []
    if replay:
        facts["replay"] = {"seed": replay.seed, "images": [result.facts() for result in results]}
    click.echo(json.dumps(facts))
    return FAULTY if faults or any(result.is_fault for result in results) else 0


def _replayed(folder: RunFolder, replay: ReplayOptions) -> list[Replayed]:
    rows = chosen_rows(folder, replay.count, replay.seed)
    if not rows:
        return []
    with (
        counting(len(rows)) as tell,
        made_again(rows, replay.devices, replay.models, run=folder, tell=tell) as again,
    ):
        return [compared(folder, row, again[row.key]) for row in rows]
