"""The runs that this process has worked on: their folders and plans, read once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from ddim_core.contracts.plan import RunPlan
from ddim_core.errors import RunNotFoundError
from ddim_core.storage.run_folder import RunFolder

REMEMBERED_RUNS = 256


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run with its plan at hand."""

    folder: RunFolder
    plan: RunPlan

    def confirm(self) -> None:
        """Make sure that the folder still holds this run: it may have been deleted, and another made in its place.

        Raises:
            RunNotFoundError: It does not.
            StorageError: The store failed.
        """
        found = self.folder.read_plan().run_id
        if found != self.plan.run_id:
            rule = f"must be {self.plan.run_id}, got {found}; it was made anew"
            raise RunNotFoundError(f"the run at {self.folder.url} {rule}")


class Runs:
    """Opens runs by URL and remembers the last few; safe for threads."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._open: OrderedDict[tuple[str, str], OpenRun] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, run_url: str, run_id: str) -> OpenRun:
        """Return the run at ``run_url``, from memory if it is there; ``confirm`` tells whether that still holds.

        Raises:
            RunNotFoundError: There is no run, or it is another one than ``run_id``.
            StorageError: The store failed, or the plan is damaged.
        """
        with self._lock:
            known = self._open.get((run_url, run_id))
            if known is not None:
                self._open.move_to_end((run_url, run_id))
                return known
        folder = RunFolder(run_url)
        plan = folder.read_plan()
        if plan.run_id != run_id:
            raise RunNotFoundError(f"the run at {folder.url} must be {run_id}, got {plan.run_id}; it was made anew")
        run = OpenRun(folder, plan)
        with self._lock:
            self._open[run_url, run_id] = run
            while len(self._open) > REMEMBERED_RUNS:
                self._open.popitem(last=False)
        return run

    def seen(self) -> list[tuple[str, str]]:
        """Return URL and id of the runs remembered."""
        with self._lock:
            return list(self._open)

    def forget(self, run_url: str, run_id: str) -> None:
        """Drop a run, because it is finished or gone."""
        with self._lock:
            self._open.pop((run_url, run_id), None)
