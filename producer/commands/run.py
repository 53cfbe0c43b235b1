"""``ddim-fleet run``: make images on this machine, with nothing to set up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from ddim_core.checkpoints.folder import resolve
from ddim_core.storage.run_folder import MANIFEST, RunFolder
from producer.commands.dry_run import tell_advice, tell_plan
from producer.commands.options import options_of, run_options
from producer.display import exit_code, follow, summary
from producer.images.hint import how_to_see
from producer.inputs import read_rows, source_of
from producer.local.fleet import LocalFleet, check_host, local_fleet
from producer.report import write_report
from producer.requests.model import checkpoint_of
from producer.runs.control import resume
from producer.runs.progress import RunProgress, RunStatus
from producer.runs.submission import PreparedRun, prepared
from producer.words import shown


@click.command("run")
@click.argument("prompts", nargs=-1)
@run_options
@click.option("--resume", "run_url", metavar="RUN_URL", help="Go on with a run as it was planned.")
@click.option(
    "--devices",
    default="auto",
    show_default=True,
    metavar="LIST",
    help="What to make images on: auto (all NPUs, or else the CPU), npu, npu:0,1 or cpu:2.",
)
def command(prompts: tuple[str, ...], run_url: str | None, devices: str, **given: Any) -> int:
    """Make the images for PROMPTS on this machine, with Redis and workers inside, and write a manifest and a report.

    PROMPTS are .jsonl, .json, .csv, .tsv, .parquet or .txt files, also with .gz or .zst after that, s3:// URLs,
    patterns, or - to read any of them from standard input. Options such as --num-inference-steps hold for requests
    that do not say otherwise. The same command again goes on where a run was interrupted.
    """
    if run_url is not None:
        _refuse_beside_resume(click.get_current_context())
        check_host()
        folder = RunFolder(run_url)
        status = _make(folder, devices, None, None)
    else:
        if not prompts:
            raise click.UsageError("Missing argument 'PROMPTS...'.", click.get_current_context())
        options = options_of(given)
        if given["plan"]:
            tell_plan(prompts, options, given)
            return 0
        check_host()
        with prepared(read_rows(*prompts), source_of(*prompts), options) as run:
            tell_advice(run.spool.workload.advice)
            folder, status = run.folder, _make(run.folder, devices, run, resolve(given["model"]))
    _conclude(folder, status)
    return exit_code(status)


def _refuse_beside_resume(context: click.Context) -> None:
    """Raise UsageError for whatever describes a run: the one that goes on has a plan already."""
    unfit = [
        parameter.human_readable_name if isinstance(parameter, click.Argument) else parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in (None, "run_url", "devices")
        and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT
    ]
    if unfit:
        raise click.UsageError(f"--resume must stand alone or with --devices, got {', '.join(unfit)}.", context)


def _make(folder: RunFolder, devices: str, run: PreparedRun | None, checkpoint: Path | None) -> RunStatus:
    """Make what is missing of a run; ``run`` is written first if nobody did.

    Without ``checkpoint``, it lies where the plan says.
    """
    is_new = run is not None and run.written_plan() is None
    if not is_new:
        before = RunProgress(folder, None).read()
        click.echo(f"the run is there already, {before.images_made} of {before.images_total} images made", err=True)
        if before.state == "finished":
            return before
    plan = run.plan if run is not None and is_new else folder.read_plan()
    place = checkpoint or checkpoint_of(plan.model)
    with _interruptible(folder), local_fleet(devices, plan.model.name, place, plan.sizes) as fleet:
        if run is not None and is_new:
            run.write()
        status = _follow(folder, fleet)
    # What was in hand when the run was cancelled may have been committed since.
    return RunProgress(folder, None).read() if status.state == "cancelled" else status


def _follow(folder: RunFolder, fleet: LocalFleet) -> RunStatus:
    """Queue what is missing of a run, and show its progress until it is over."""
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
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup's wish
            signal.signal(number, _terminated)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if folder.has_plan():
            click.echo(f"\nstopped; what is made is kept. To go on: ddim-fleet run --resume {folder.url}", err=True)
        raise


def _terminated(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _conclude(folder: RunFolder, status: RunStatus) -> None:
    """Write the report, and say where everything is."""
    click.echo(summary(status), err=True)
    images = "shards" if folder.read_plan().container == "webdataset" else "images"
    click.echo(f"images:   {shown(f'{folder.url}/{images}')}")
    if status.state == "finished":
        click.echo(f"manifest: {shown(f'{folder.url}/{MANIFEST}')}")
    click.echo(f"report:   {shown(write_report(folder.url))}")
    if see := how_to_see(status):
        click.echo(f"to see the images as files: {see}", err=True)
    if status.state == "cancelled":
        click.echo(f"to go on with it: ddim-fleet run --resume {folder.url}", err=True)
