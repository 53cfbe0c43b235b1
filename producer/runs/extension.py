"""Extend a run: more requests under its options, in chunks after those that it has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ddim_core.contracts.changes import Extension
from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.plan import RunPlan
from ddim_core.errors import CheckpointError, Fault, RequestFaults, RunExistsError
from ddim_core.storage.changes import add_change, claim_extension
from ddim_core.storage.reading import read_ahead
from ddim_core.storage.run_folder import RunFolder, chunk_path
from producer.broker import Broker
from producer.requests.fleet_limits import FleetLimits
from producer.requests.input_images import Pictures
from producer.requests.messages import got
from producer.requests.model import Model, read_model
from producer.requests.rows import Row
from producer.requests.spool import Spool, chunk_files, spooled
from producer.requests.validate import FAULTS_SHOWN, RequestChecker, checked
from producer.runs.control import enqueue
from producer.runs.recommendation import without_recommended


@dataclass(frozen=True, slots=True)
class More:
    """Requests to be added to a run."""

    rows: Iterable[Row | Fault]
    source: str
    """What to call them in messages."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Fields of requests that do not give them, in place of the run's."""
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What prompts may name in braces."""
    limits: Limits = NO_LIMITS
    """What the operator of this side allows; workers may allow less."""


def extend(folder: RunFolder, more: More, broker: Broker, *, take_over: bool = False) -> Extension:
    """Add requests to a run, finished or not, and queue them; if anything is wrong with one, do neither.

    With ``take_over``, also where another command began to extend the run; it must have died.

    Raises:
        RunNotFoundError: The folder holds no run.
        RequestFaults: The requests have faults, or a ``custom_id`` that the run has.
        InputError: The run would be larger than the operator allows.
        RunExistsError: Another command is extending the run, or died at it.
        BrokerError: Redis does not answer. If it failed on the way, the run is extended, and ``resume`` queues it.
    """
    plan = folder.read_plan()
    broker.ping()
    limits = FleetLimits.known(more.limits, broker.workers())
    with Pictures() as pictures:
        checker = RequestChecker(
            without_recommended(plan.defaults, _model_of(plan)),
            {**plan.defaults, **more.defaults},
            image_format=plan.image_format,
            first_index=plan.request_count,
            pictures=pictures,
            limits=limits,
        )
        requests = checked(more.rows, checker, more.source, more.lists, plan.name_separator)
        with spooled(requests, checker.prompts.windows) as spool:
            added = spool.workload
            limits.check_run(plan.request_count + added.requests, plan.image_count + added.images)
            _refuse_known_names(folder, plan, checker)
            extension = _plan_extension(plan, spool)
            _claim(folder, extension, take_over=take_over)
            pictures.write(folder)
            chunks = chunk_files(spool, plan.images_per_chunk, plan.request_count)
            for chunk, data in enumerate(chunks, plan.chunk_count):
                folder.write_chunk(chunk, data)
    plan = _add(folder, plan, extension)
    folder.remove_manifest()  # it holds no longer: for us since the change, for others from now on
    if folder.halted() is None:
        enqueue(folder, plan, broker)
    return extension


def _model_of(plan: RunPlan) -> Model:
    model = read_model(plan.model.name, plan.model.variant)
    if model.digest != plan.model.digest:
        raise CheckpointError(
            f"checkpoint {model.name} must have digest {plan.model.digest}, got {model.digest}; put it back"
        )
    return model


def _refuse_known_names(folder: RunFolder, plan: RunPlan, checker: RequestChecker) -> None:
    """Raise RequestFaults for requests whose ``custom_id`` one of the run has; only the new ones are in memory."""
    known = {custom_id for names in _names(folder, plan) for custom_id in names if checker.place_of(custom_id)}
    faults = []
    for custom_id in known:
        source, line = checker.place_of(custom_id) or ("", 0)
        rule = f"must be unique, got {got(custom_id)}, which the run has already"
        faults.append(Fault(source, line or None, "custom_id", rule))
    if faults:
        faults.sort(key=lambda fault: (fault.source, fault.line or 0))
        raise RequestFaults(faults[:FAULTS_SHOWN], len(faults))


def _names(folder: RunFolder, plan: RunPlan) -> Iterator[set[str]]:
    def read(chunk: int) -> set[str]:
        return {json.loads(line)["request"]["custom_id"] for line in folder.store.get(chunk_path(chunk)).splitlines()}

    return read_ahead(read, range(plan.chunk_count))


def _plan_extension(plan: RunPlan, spool: Spool) -> Extension:
    digest = hashlib.sha256()
    for data in chunk_files(spool, plan.images_per_chunk, plan.request_count):
        digest.update(data)
    return Extension(
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        first_chunk=plan.chunk_count,
        request_count=spool.workload.requests,
        image_count=spool.workload.images,
        chunk_count=-(-spool.workload.images // plan.images_per_chunk),
        requests_digest=f"sha256:{digest.hexdigest()}",
        sizes=spool.workload.frequent_sizes(),
        windowed=spool.workload.frequent_windowed(),
        cut_images=spool.workload.cut_images,
        thresholding=spool.workload.thresholding,
        inverting=spool.workload.inverting,
    )


def _claim(folder: RunFolder, extension: Extension, *, take_over: bool) -> None:
    claimed = claim_extension(folder.store, extension, take_over=take_over)
    if claimed.requests_digest != extension.requests_digest:
        raise RunExistsError(
            f"a run must be extended by one command at a time, but another one began at {claimed.created_at} to add "
            f"{claimed.image_count} images to {folder.url}; if it died, give it again, or this one with --take-over"
        )


def _add(folder: RunFolder, plan: RunPlan, extension: Extension) -> RunPlan:
    """Make the new chunks part of the run: one object does it, and before that they are nothing."""
    _claim(folder, extension, take_over=False)  # services without conditional writes let two claim it at once
    while (extended := add_change(folder.store, plan, extension)) is None:
        plan = folder.read_plan(plan)
        if plan.chunk_count != extension.first_chunk:
            raise RunExistsError(f"the run at {folder.url} was extended by another command meanwhile; give this again")
    return extended
