"""``ddim-fleet failed``: list the images of a run that could not be made."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ddim_core.hiding import without_controls
from ddim_core.storage.run_folder import RunFolder
from producer.runs.failures import FailedImage, failed_images
from producer.words import counted


@click.command("failed")
@click.argument("run_url")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line, for programs.")
def command(run_url: str, *, as_json: bool) -> None:
    """List the failed images of the run at RUN_URL, as far as it is: key, request, attempts and why.

    `ddim-fleet resume --failed` makes just those again.
    """
    folder = RunFolder(run_url)
    count = 0
    for image in failed_images(folder):
        click.echo(json.dumps(asdict(image), ensure_ascii=False) if as_json else _line(image))
        count += 1
    if not as_json:
        click.echo(f"{counted(count, 'failed image')} in {folder.url}", err=True)
    if count:
        click.echo(f"to make them again: ddim-fleet resume --failed {folder.url}", err=True)


def _line(image: FailedImage) -> str:
    message = " ".join(image.error_message.split())  # a line an image, whatever a library says
    tries = counted(image.attempts, "attempt")
    return without_controls(f"{image.key}  {image.custom_id}  {tries}  {image.error_code}: {message}")
