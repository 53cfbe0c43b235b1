"""``ddim-fleet run``: make images on this machine, with nothing to set up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from ddim_core.storage.run_folder import MANIFEST, RunFolder
from ddim_core.storage.urls import folder_of
from producer.commands.options import options_of, run_options
from producer.display import exit_code, follow, summary
from producer.embedded import check_host, local_fleet
from producer.inputs import read_rows
from producer.progress import RunProgress, RunStatus
from producer.submission import prepared, resume

_TERMINATED = 128 + signal.SIGTERM


@click.command("run")
@click.argument("prompts", required=False)
@run_options
@click.option("--resume", "run_url", metavar="RUN_URL", help="Go on with a run, in place of PROMPTS and --out.")
@click.option(
    "--devices",
    default="auto",
    show_default=True,
    metavar="LIST",
    help="What to make images on: auto (all NPUs, or the CPU), npu:0,npu:1, cpu:2.",
)
def command(prompts: str | None, run_url: str | None, devices: str, **given: Any) -> int:
    """Make the images for PROMPTS on this machine, with Redis and workers inside, and write a manifest and a report.

    PROMPTS is a .jsonl, .csv, .parquet or .txt file, or - to read JSON lines or a prompt a line from standard input.
    Options such as --num-inference-steps hold for requests that do not say otherwise. The same command again goes on
    where a run was interrupted.
    """
    check_host()
    folder = _resumed(run_url, prompts, given["out"]) if run_url else _written(prompts, given)
    with _interruptible(folder):
        status = _make(folder, devices)
    _conclude(folder, status)
    return exit_code(status)


def _resumed(run_url: str, prompts: str | None, out: str | None) -> RunFolder:
    if prompts or out:
        raise click.UsageError("--resume must stand without PROMPTS and --out.", click.get_current_context())
    folder = RunFolder(run_url)
    folder.read_plan()
    return folder


def _written(prompts: str | None, given: dict[str, Any]) -> RunFolder:
    """Return the folder of the run, which is written unless this same run is there already."""
    if prompts is None:
        raise click.UsageError("Missing argument 'PROMPTS'.", click.get_current_context())
    with prepared(read_rows(prompts), prompts, options_of(given)) as run:
        if run.written_plan() is None:
            run.write()
        else:
            click.echo(f"this run is there already; going on with it: {run.folder.url}", err=True)
        return run.folder


def _make(folder: RunFolder, devices: str) -> RunStatus:
    if folder.read_manifest() is not None:
        return RunProgress(folder, None).read()
    with local_fleet(devices) as fleet:
        resume(folder, fleet.broker)
        progress = RunProgress(folder, fleet.broker)

        def read() -> RunStatus:
            fleet.check()
            return progress.read()

        return follow(read)


@contextmanager
def _interruptible(folder: RunFolder) -> Iterator[None]:
    """Say how to go on after Ctrl-C, and stop what was started after SIGTERM and SIGHUP, too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminated)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        click.echo(f"\nstopped; what is made is kept. To go on: ddim-fleet run --resume {folder.url}", err=True)
        raise


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _conclude(folder: RunFolder, status: RunStatus) -> None:
    click.echo(summary(status), err=True)
    plan = folder.read_plan()
    images = "images" if plan.container == "imagefolder" else "shards"
    for name, path in (("images", images), ("manifest", MANIFEST)):
        click.echo(f"{name + ':':<10}{shown(f'{folder.url}/{path}')}")


def shown(url: str) -> str:
    """Return a URL as a person can open it: a path where there is one."""
    return str(folder_of(url)) if url.startswith("file://") else url
