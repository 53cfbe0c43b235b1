"""What keeps a run from going on, as its workers told Redis, each in one line for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ddim_core.contracts.queue import Refusals, WorkerReport


def trouble_line(run_url: str, reports: Iterable[WorkerReport]) -> str:
    """Return in one line which workers wait for the store of this run, and for what the first of them does."""
    places = (f"{run_url}/", f"{run_url}:")
    ordered = sorted(reports, key=lambda report: (report.host, report.device))
    found = [(one, line) for one in ordered for line in one.troubles if any(place in line for place in places)]
    return f"{_named([one for one, _ in found])}: {found[0][1]}; waiting" if found else ""


def refusal_line(refusals: Refusals, reports: Iterable[WorkerReport]) -> str:
    """Return in one line which living workers cannot load this run's checkpoint, and why, unless one of them can."""
    ordered = sorted(reports, key=lambda report: (report.host, report.device))
    found = [report for report in ordered if report.worker_id in refusals.reasons]
    if not found or refusals.able in {report.worker_id for report in ordered}:
        return ""
    return f"{_named(found)} cannot make it: {refusals.reasons[found[0].worker_id]}; it waits for one that can"


def _named(workers: Sequence[WorkerReport]) -> str:
    first, others = workers[0], len(workers) - 1
    return f"worker {first.device} on {first.host}" + (f" and {others} more" if others else "")
