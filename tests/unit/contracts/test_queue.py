"""What producer and workers agree on about Redis."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from pydantic import ValidationError

from ddim_core.contracts.plan import Priority
from ddim_core.contracts.queue import (
    LEASE_RENEW_S,
    LEASE_S,
    ChunkMessage,
    RunKeys,
    WorkerReport,
    celery_options,
    queue_of,
    queues_of,
)

RUN = {"run_url": "file:///data/run", "run_id": "20260101-000000-00000000"}


def test_a_message_stays_small() -> None:
    """Redis holds a message a chunk, whatever is in the chunk."""
    assert len(ChunkMessage(**RUN, chunk=10**6).model_dump_json()) < 200


@pytest.mark.parametrize("changes", [{"chunk": -1}, {"run_id": "../x"}, {"run_url": ""}, {"more": 1}, {"version": 2}])
def test_a_message_of_another_form_is_refused(changes: dict[str, object]) -> None:
    """Anyone who reaches Redis can send one."""
    with pytest.raises(ValidationError):
        ChunkMessage.model_validate({**RUN, "chunk": 0, **changes})


def test_nothing_but_json_is_accepted_from_the_queue() -> None:
    """A pickled message could run code in a worker."""
    options = celery_options("redis://h", "q")
    assert (options["accept_content"], options["task_serializer"]) == (["json"], "json")
    assert (options["broker_url"], options["task_default_queue"]) == ("redis://h", "q")
    assert options["task_acks_late"] and options["task_ignore_result"]
    json.dumps(options)


def test_keys_of_two_runs_never_meet() -> None:
    """And none is the beginning of another, so that a pattern cannot catch too much."""
    keys = [RunKeys(run) for run in ("aaaaaaaa", "bbbbbbbb")]
    names = [name for each in keys for name in (*each.lasting(), each.lease(1), each.lease(11), each.requeued(1))]
    assert len(set(names)) == len(names)
    assert all(name.startswith("ddim-fleet:") for name in names)


def test_a_lease_outlives_a_missed_renewal() -> None:
    """Otherwise one slow moment of Redis would give a chunk to two workers."""
    assert LEASE_S > 2 * LEASE_RENEW_S


def test_a_report_of_a_later_version_is_still_read() -> None:
    """Status must work while a fleet is being upgraded."""
    report = {"worker_id": "w", "host": "h", "pid": 1, "device": "npu:0", "state": "ready", "temperature": 60}
    assert WorkerReport.model_validate(report).chunks == ()


def test_each_priority_has_a_queue_and_high_comes_first() -> None:
    """Messages of runs that name none lie where they always did."""
    assert queues_of("fleet") == ["fleet.high", "fleet", "fleet.low"]
    assert sorted(queue_of("fleet", priority) for priority in get_args(Priority)) == sorted(queues_of("fleet"))
    assert celery_options("redis://h")["broker_transport_options"]["queue_order_strategy"] == "priority"
