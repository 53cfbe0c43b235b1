"""``ddim-fleet extract``: write images of a run to a folder as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ddim_core.hiding import without_controls
from ddim_core.storage.run_folder import RunFolder
from producer.images.extract import Batch, Extraction, extract
from producer.images.naming import By
from producer.images.target import Wish
from producer.words import counted

FAULTY = 3


@click.command("extract")
@click.argument("run_url")
@click.argument("names", nargs=-1, metavar="[KEY]...")
@click.option("--out", required=True, metavar="DIR", help="The folder for the files; it is made.")
@click.option("--captions", is_flag=True, help="Write each image's caption beside it, as NAME.txt.")
@click.option("--rows", is_flag=True, help="Write all that is known of each image beside it, as NAME.json.")
@click.option(
    "--by", type=click.Choice(get_args(By)), help="What KEYs are. [default: a key where there is one, else a custom_id]"
)
@click.option("--replace", is_flag=True, help="Write over files that have an image's name and hold something else.")
def command(run_url: str, names: tuple[str, ...], out: str, **how: Any) -> int:
    """Write the images of the run at RUN_URL into a folder, one file each; or only those of KEYs.

    A KEY is an image's key (000010002), or the custom_id of a request, which stands for all its images. Files are
    named after custom_id and number of the image, or after the key where a request has no custom_id of its own.

    Works while a run is being made, for what is done of it. Given again, it fetches only what is not there. Of a large
    shard in a bucket only the images asked for are read. Each file is compared with the sha256 of its row. Exits with 3
    if an image is gone, damaged, or has another file in its way; all others are written.
    """
    folder = RunFolder(run_url)
    with _shown(folder, names) as tell:
        extraction = extract(folder, out, Wish(names, **how), tell)
    _conclude(extraction, run_url)
    return FAULTY if extraction.faults else 0


@contextmanager
def _shown(folder: RunFolder, names: tuple[str, ...]) -> Iterator[Callable[[Batch], None]]:
    """Yield what tells of each batch: where named images are, or how many there are by now, in a terminal."""
    console = Console(stderr=True)
    if names or not console.is_terminal:
        yield _tell_paths if names else lambda batch: None
        return
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("images", total=folder.read_plan().image_count)
        yield lambda batch: bar.advance(task, batch.written + batch.there + len(batch.faults))


def _tell_paths(batch: Batch) -> None:
    for path, record in batch.paths:
        click.echo(without_controls(f"{path}  key {record.key}, custom_id {record.custom_id}"))


def _conclude(extraction: Extraction, run_url: str) -> None:
    """Say where the images are, and what is not there."""
    images = counted(extraction.written + extraction.there, "image")
    before = f", {extraction.there} of them there before" if extraction.there else ""
    click.echo(f"{images} in {extraction.folder}{before}")
    for fault in extraction.faults:
        click.echo(f"fault: {without_controls(fault)}", err=True)
    if extraction.fault_count > len(extraction.faults):
        click.echo(f"and {extraction.fault_count - len(extraction.faults)} more faults", err=True)
    if extraction.failed:
        failed = counted(extraction.failed, "image")
        click.echo(f"{failed} could not be made: ddim-fleet failed {run_url}", err=True)
    if extraction.chunks_left:
        left = counted(extraction.chunks_left, "chunk")
        click.echo(f"{left} of the run not done yet: give the command again for the rest", err=True)
