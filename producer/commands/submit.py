"""``ddim-fleet submit``: plan a run and queue it."""

from __future__ import annotations

from typing import Any

import click

from producer.broker import Broker
from producer.commands.broker_advice import warn_of
from producer.commands.dry_run import tell_advice, tell_plan
from producer.commands.options import broker_option, options_of, run_options
from producer.inputs import read_rows, source_of
from producer.runs.submission import submit
from producer.words import counted


@click.command("submit")
@click.argument("prompts", nargs=-1, required=True)
@run_options
@broker_option
def command(prompts: tuple[str, ...], broker: str | None, **given: Any) -> None:
    """Check the requests in PROMPTS, write the run to --out, and queue it for the workers.

    PROMPTS are .jsonl, .json, .csv, .tsv, .parquet or .txt files, also with .gz or .zst after that, s3:// URLs,
    patterns such as 's3://bucket/prompts/*.jsonl.zst', or - to read any of them from standard input. Options such as
    --num-inference-steps hold for requests that do not say otherwise.
    """
    options = options_of(given)
    if given["plan"]:
        tell_plan(prompts, options, given, Broker(broker))
        return
    connection = Broker(broker)
    folder = submit(read_rows(*prompts), source_of(*prompts), options, connection, tell_advice)
    warn_of(connection)
    plan = folder.read_plan()
    images, chunks = counted(plan.image_count, "image"), counted(plan.chunk_count, "chunk")
    click.echo(f"queued {images} in {chunks}", err=True)
    click.echo(f"to follow it: ddim-fleet watch {folder.url}", err=True)
    click.echo(folder.url)
