"""What the workers on a broker are at, as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence

from ddim_core.contracts.queue import WorkerReport

_ONCE = ("load", "warm_up")
"""Stages that say nothing of how a worker spends its time from then on."""
_ALIGNED = 12


def workers_table(reports: Sequence[WorkerReport]) -> str:
    """Return a block of lines for each worker, by host and device."""
    if not reports:
        return "no worker reports to this broker"
    ordered = sorted(reports, key=lambda report: (report.host, report.device))
    return "\n\n".join(map(_block, ordered))


def _block(report: WorkerReport) -> str:
    rows = {
        "worker": f"{report.device} on {report.host}, pid {report.pid}, {report.state}",
        "chunks": ", ".join(report.chunks) or "none in hand",
        "images": f"{report.images}, {report.images_per_s:.2f} images/s lately",
        "slots": f"{report.slot_occupancy:.0%} in use"
        + "".join(f", {n} of {size}" for size, n in report.slots.items()),
        "graphs": f"{report.graphs} compiled, {report.graphs_since_warm_up} of them since the warm-up",
        "time": _shares(report),
    }
    if limits := report.limits.given():
        rows["limits"] = ", ".join(f"{name}={value}" for name, value in limits.items())
    if report.memory_shortages:
        rows["memory"] = f"batches halved for want of it: {report.memory_shortages}"
    return "\n".join(f"{name:<{_ALIGNED}} {value}" for name, value in rows.items())


def _shares(report: WorkerReport) -> str:
    """Return how the sampling thread has spent its time, the largest share first."""
    spent = {stage: seconds for stage, seconds in report.seconds.items() if stage not in _ONCE}
    total = sum(spent.values())
    shares = sorted(spent.items(), key=lambda item: -item[1])
    return ", ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in shares if total) or "-"
