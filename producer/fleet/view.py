"""What the workers on a broker are at, as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from ddim_core.contracts.hosts import Cordon, HostReport
from ddim_core.contracts.queue import WorkerReport

_ONCE = ("load", "warm_up")
"""Stages that say nothing of how a worker spends its time from then on."""
_ALIGNED = 12


@dataclass(frozen=True, slots=True)
class FleetView:
    """All hosts, all workers, and what is out of service."""

    hosts: Sequence[HostReport]
    cordons: Mapping[str, Cordon]
    workers: Sequence[WorkerReport]

    def as_json(self, *, in_full: bool = True) -> dict[str, Any]:
        """Return it for programs; what is out of service alone unless ``in_full``."""
        out = {"out_of_service": {place: cordon.model_dump() for place, cordon in self.cordons.items()}}
        reports = {
            "host_reports": [report.model_dump() for report in self.hosts],
            "worker_reports": [report.model_dump() for report in self.workers],
        }
        return {**out, **reports} if in_full else out

    def __str__(self) -> str:
        """Return it for a person: what needs one first."""
        return "\n\n".join(block for block in (self.trouble(), workers_table(self.workers)) if block)

    def trouble(self) -> str:
        """Return a line for everything that is out of service, and for each device whose process just died."""
        hosts = {host.host for host in self.hosts}
        lines = [_out_of_service(place, cordon, hosts) for place, cordon in sorted(self.cordons.items())]
        for host in self.hosts:
            for one in host.devices:
                place = f"{host.host}/{one.device}"
                if one.state == "restarting":
                    lines.append(f"restarting: {place}, died {one.deaths} times without an image, last: {one.reason}")
                elif one.state == "out of service" and not {place, host.host} & self.cordons.keys():
                    lines.append(f"out of service: {place}: {one.reason or 'no reason given'}")
        return "\n".join(lines)


def _out_of_service(place: str, cordon: Cordon, hosts: Set[str]) -> str:
    gone = "" if place.partition("/")[0] in hosts else " (no supervisor reports from there)"
    why = f"since {cordon.since}: {cordon.reason or 'no reason given'}"
    return f"out of service: {place}{gone} {why}; to put it back: ddim-fleet uncordon {place}"


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
    if report.kernels:
        rows["kernels"] = report.kernels
    if limits := report.limits.given():
        rows["limits"] = ", ".join(f"{name}={value}" for name, value in limits.items())
    if report.memory_shortages:
        rows["memory"] = f"batches halved for want of it: {report.memory_shortages}"
    lines = [*rows.items(), *(("trouble", f"{line}; waiting") for line in report.troubles)]
    return "\n".join(f"{name:<{_ALIGNED}} {value}" for name, value in lines)


def _shares(report: WorkerReport) -> str:
    """Return how the sampling thread has spent its time, the largest share first."""
    spent = {stage: seconds for stage, seconds in report.seconds.items() if stage not in _ONCE}
    total = sum(spent.values())
    shares = sorted(spent.items(), key=lambda item: -item[1])
    return ", ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in shares if total) or "-"
