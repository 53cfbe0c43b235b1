"""What no worker would make is refused before it is queued."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.queue import WorkerReport, WorkerState
from ddim_core.contracts.request import Request
from ddim_core.errors import InputError, RequestFaults
from producer.requests.fleet_limits import FleetLimits
from producer.requests.rows import Row
from producer.runs.options import RunOptions
from producer.runs.submission import prepared

REQUEST = Request(prompt="a", height=64, width=64, custom_id="a", num_inference_steps=200)
TIGHT, LOOSE = Limits(max_num_inference_steps=100), Limits(max_num_inference_steps=150)


def report(limits: Limits = NO_LIMITS, state: WorkerState = "ready") -> WorkerReport:
    """Return what a worker with these limits says of itself."""
    return WorkerReport(worker_id="w", host="h", pid=1, device="sim:0", state=state, limits=limits)


@pytest.mark.parametrize(
    ("own", "workers", "refused_by"),
    [
        (NO_LIMITS, [], None),
        (TIGHT, [], 100),
        (NO_LIMITS, [report(TIGHT)], 100),
        (NO_LIMITS, [report(TIGHT), report()], None),
        (NO_LIMITS, [report(TIGHT), report(state="draining")], 100),
        (LOOSE, [report(), report(TIGHT)], 150),
        (TIGHT, [report(TIGHT)], 100),
    ],
)
def test_a_request_is_refused_if_this_side_or_every_worker_refuses_it(
    own: Limits, workers: list[WorkerReport], refused_by: int | None
) -> None:
    """A single worker that takes it is enough, unless it is about to end."""
    limits = FleetLimits.known(own, workers)
    faults = limits.faults(REQUEST)
    assert limits.limit_requests() or not faults
    expected = [("num_inference_steps", f"must be at most {refused_by} on this fleet, got 200")] if refused_by else []
    assert faults == expected


def test_a_worker_that_names_no_limits_has_none() -> None:
    """It may be of an older version; and a later one may have limits that are not known here."""
    known = json.loads(report().model_dump_json())
    del known["limits"]
    assert WorkerReport.model_validate(known).limits == NO_LIMITS
    assert WorkerReport.model_validate({**known, "limits": {"max_moons": 1}}).limits == NO_LIMITS


def test_a_fault_names_file_line_field_rule_and_value(tmp_path: Path) -> None:
    """And nothing is written."""
    rows = [Row("p.jsonl", 7, {"prompt": "a", "num_inference_steps": 101})]
    options = RunOptions(out=str(tmp_path / "out"))
    with (
        pytest.raises(
            RequestFaults, match=r"^p\.jsonl:7: num_inference_steps must be at most 100 on this fleet, got 101$"
        ),
        prepared(rows, "p.jsonl", options, [report(TIGHT)]),
    ):
        pass
    assert not (tmp_path / "out").exists()


def test_the_runs_defaults_may_lie_above_a_limit_that_no_request_breaks(tmp_path: Path) -> None:
    """The built-in default of 50 steps is nobody's wish."""
    rows = [Row("p.jsonl", 1, {"prompt": "a", "num_inference_steps": 4})]
    options = RunOptions(out=str(tmp_path / "out"), limits=Limits(max_num_inference_steps=4))
    with prepared(rows, "p.jsonl", options) as run:
        assert run.plan.image_count == 1


def test_a_run_that_is_too_large_is_refused_whole(tmp_path: Path) -> None:
    """Whatever its requests are."""
    rows = [Row("p.jsonl", line, {"prompt": "a"}) for line in (1, 2, 3)]
    options = RunOptions(out=str(tmp_path / "out"), limits=Limits(max_requests_per_run=2, max_images_per_run=2))
    message = (
        r"^the requests of a run must be at most 2 on this fleet, got 3; "
        r"the images of a run must be at most 2 on this fleet, got 3$"
    )
    with pytest.raises(InputError, match=message), prepared(rows, "p.jsonl", options):
        pass
