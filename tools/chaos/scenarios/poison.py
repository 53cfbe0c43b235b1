"""Requests that fail, break or stop the device, or kill the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.chaos.audit import audit, rows_of
from tools.chaos.cluster import Cluster
from tools.chaos.figures import Figure, exactly, noted, of_faults
from tools.chaos.work import Options, write_work

HOSTS, DEVICES = 1, "sim:3:5"
STALL_TIMEOUT_S = 5
"""Twenty steps of the device take a tenth of a second; two busy cores may take it for longer from a process."""
REASONS = {
    "sim:fail": ("sample_failed", "the simulated sample failed"),
    "sim:nan": ("not_finite", "the image must be made of numbers"),
    "sim:oom": ("out_of_memory", "the device must have memory for one image"),
    "sim:break": ("device_failed", "the simulated device broke"),
    "sim:kill": ("worker_lost", "the worker died"),
    "sim:segv": ("worker_lost", "the worker died"),
    "sim:hang": ("deadline_exceeded", "the device stood still"),
}
"""What the row of each kind of poison must say: the code of the failure, and words of its message."""


def run(options: Options, kinds: tuple[str, ...] = tuple(REASONS)) -> list[Figure]:
    """Hide as many poisoned requests of each kind as ``options.faults`` among healthy ones."""
    poison = [f"{kind} {number}" for kind in kinds for number in range(options.faults)]
    work = write_work(options.folder / "requests.jsonl", options.images, poison=poison, seed=options.seed)
    with Cluster(options.folder) as cluster:
        cluster.add_hosts(HOSTS, DEVICES, options=["--stall-timeout", str(STALL_TIMEOUT_S)])
        made = cluster.make(work, options.folder / "run", options.timeout_s)
        rows = rows_of(made)
        failed = {row["prompt"] for row in rows if row["status"] == "failed"}
        return [
            exactly("poisoned requests", len(poison), options.faults * len(kinds)),
            exactly("healthy requests that failed", len(failed - set(poison)), 0),
            exactly("poisoned requests that did not fail", len(set(poison) - failed), 0),
            exactly("failed rows with another reason", sum(not _has_reason(row) for row in rows), 0),
            noted("worker processes that ended", cluster.log_text().count("action=worker_died"), ""),
            *of_faults(audit(made, work.wanted), "lost row", "duplicate row"),
        ]


def _has_reason(row: Mapping[str, Any]) -> bool:
    """Return whether a failed row says why, in the words of its poison; other rows need not say anything."""
    kind = str(row["prompt"]).partition(" ")[0]
    if row["status"] != "failed" or kind not in REASONS:
        return True
    code, words = REASONS[kind]
    return row["error_code"] == code and words in str(row["error_message"])
