"""``ddim-fleet replay``: make images again from their rows alone."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import click

from ddim_core.contracts.record import Record
from ddim_core.errors import InputError
from ddim_core.storage.run_folder import RunFolder
from producer.commands.options import replay_options
from producer.display import counting
from producer.replay import compared, lines_of, made_again, row_of
from producer.words import counted

FAULTY = 3


@click.command("replay")
@click.argument("run_url")
@click.argument("keys", nargs=-1, required=True)
@click.option(
    "--out", default=".", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), help="Where the images go."
)
@replay_options
def command(run_url: str, keys: tuple[str, ...], out: Path, devices: str, models: tuple[str, ...]) -> int:
    """Make the images KEYS of the run at RUN_URL again, each from its row alone, and write them into a folder.

    Says of each whether it has the same bytes, and if not, by how much its pixels differ and what differs between the
    row and here. Exits with 3 if an image cannot be made, or differs where nothing else does.
    """
    folder = RunFolder(run_url)
    rows = [row_of(folder, key) for key in dict.fromkeys(keys)]
    _prepare(out, rows)
    click.echo(f"making {counted(len(rows), 'image')} again; a device compiles first, which takes a while", err=True)
    with counting(len(rows)) as tell, made_again(rows, devices, models, run=folder, tell=tell) as again:
        written = _write(out, again)
        results = [compared(folder, row, again[row.key]) for row in rows]
    for line in lines_of(results):
        click.echo(line)
    for path in written:
        click.echo(f"written: {path}")
    return FAULTY if any(result.is_fault for result in results) else 0


def _prepare(out: Path, rows: list[Record]) -> None:
    """Refuse what cannot be written, before minutes are spent: nothing is written over."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"the output must be a folder, got {out}: {exc.strerror}") from exc
    for row in rows:
        if (path := out / f"{row.key}.{row.format}").exists():
            raise InputError(f"the output must be free, but there is {path}; choose another folder with --out")


def _write(out: Path, again: Mapping[str, Record]) -> list[Path]:
    """Move what was made into the folder, each file whole or not at all."""
    written = []
    for row in again.values():
        if row.path is not None:
            target = out / f"{row.key}.{row.format}"
            staged = target.with_name(f".{target.name}.part")
            shutil.copyfile(row.path, staged)
            staged.rename(target)
            written.append(target)
    return written
