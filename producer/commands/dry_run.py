"""``--plan``: what a run comes to, before anything is written or queued."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import click

from ddim_core.contracts.queue import WorkerReport
from ddim_core.errors import BrokerError
from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.inputs import read_rows, source_of
from producer.requests.advice import Advice
from producer.runs.estimate import Estimate, estimate_text, estimated
from producer.runs.measured import measured
from producer.runs.options import RunOptions
from producer.runs.submission import workload_of


def tell_plan(
    prompts: Sequence[str], options: RunOptions, given: Mapping[str, Any], broker: Broker | None = None
) -> None:
    """Check all requests, and print what their run comes to.

    Raises:
        RequestFaults: The requests have faults.
        InputError: The run of ``--speed-from`` cannot be used, or what ``prepared`` refuses.
    """
    earlier = measured(RunFolder(given["speed_from"])) if given["speed_from"] else None
    reports = _reports(broker)
    workload = workload_of(read_rows(*prompts), source_of(*prompts), options, reports)
    estimate: Estimate = estimated(workload, options, earlier, reports)
    click.echo(json.dumps(asdict(estimate)) if given["as_json"] else estimate_text(estimate))
    click.echo("nothing was written or queued", err=True)


def tell_advice(advice: Advice) -> None:
    """Say on standard error what a person should know of a run's model before it is made."""
    for line in advice.lines():
        click.echo(line, err=True)


def _reports(broker: Broker | None) -> list[WorkerReport]:
    try:
        return broker.workers() if broker else []
    except BrokerError:  # without Redis there is no speed to know of; all else stands
        return []
