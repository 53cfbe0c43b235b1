"""Requests that fail, break the device, or kill the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.chaos.audit import audit, rows_of
from tools.chaos.cluster import Cluster
from tools.chaos.figures import Figure, exactly, of_faults
from tools.chaos.work import Options, write_work

HOSTS, DEVICES = 1, "sim:3:5"
REASONS = {
    "sim:fail": ("SampleError", "the simulated sample failed"),
    "sim:kill": ("SampleError", "times with this image alone"),
    "sim:break": ("DeviceError", "the simulated device broke"),
}
"""What the row of each kind of poison must say: the class of the error, and words of its message."""


def run(options: Options, kinds: tuple[str, ...] = tuple(REASONS)) -> list[Figure]:
    """Hide as many poisoned requests of each kind as ``options.faults`` among healthy ones."""
    poison = [f"{kind} {number}" for kind in kinds for number in range(options.faults)]
    work = write_work(options.folder / "requests.jsonl", options.images, poison=poison, seed=options.seed)
    with Cluster(options.folder) as cluster:
        cluster.add_hosts(HOSTS, DEVICES)
        made = cluster.make(work, options.folder / "run", options.timeout_s)
        rows = rows_of(made)
        failed = {row["prompt"] for row in rows if row["status"] == "failed"}
        return [
            exactly("poisoned requests", len(poison), options.faults * len(kinds)),
            exactly("healthy requests that failed", len(failed - set(poison)), 0),
            exactly("poisoned requests that did not fail", len(set(poison) - failed), 0),
            exactly("failed rows with another reason", sum(not _has_reason(row) for row in rows), 0),
            *of_faults(audit(made, work.wanted), "lost row", "duplicate row"),
        ]


def _has_reason(row: Mapping[str, Any]) -> bool:
    """Return whether a failed row says why, in the words of its poison; other rows need not say anything."""
    kind = str(row["prompt"]).partition(" ")[0]
    if row["status"] != "failed" or kind not in REASONS:
        return True
    error_class, words = REASONS[kind]
    return row["error_class"] == error_class and words in str(row["error_message"])
