"""The runs that this process has worked on: their folders and plans, kept in memory and compared with the store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from ddim_core.contracts.plan import RunPlan
from ddim_core.errors import RunNotFoundError
from ddim_core.storage.commits import Commits
from ddim_core.storage.run_folder import RunFolder

REMEMBERED_RUNS = 256


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run with its plan at hand, as it stood when it was read."""

    folder: RunFolder
    plan: RunPlan
    commits: Commits

    @classmethod
    def read(cls, folder: RunFolder) -> OpenRun:
        """Return the run that the folder holds.

        Raises:
            RunNotFoundError: It holds none.
            StorageError: The store failed, or the plan is damaged.
        """
        plan = folder.read_plan()
        return cls(folder, plan, Commits.of(folder, plan))

    def again(self) -> OpenRun:
        """Return the run as it stands now; somebody may have added requests, or ordered failed images again.

        Raises:
            RunNotFoundError: It was deleted, and perhaps another made in its place.
            StorageError: The store failed.
        """
        plan = self.folder.read_plan(self.plan)
        _check_id(self.folder, plan, self.plan.run_id)
        return self if plan == self.plan else OpenRun(self.folder, plan, Commits.of(self.folder, plan))


class Runs:
    """Opens runs by URL and remembers the last few; safe for threads."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._open: OrderedDict[tuple[str, str], OpenRun] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, run_url: str, run_id: str) -> OpenRun:
        """Return the run at ``run_url``, from memory if it is there, where it may be out of date.

        Raises:
            RunNotFoundError: There is no run, or it is another one than ``run_id``.
            StorageError: The store failed, or the plan is damaged.
        """
        with self._lock:
            known = self._open.get((run_url, run_id))
        if known is None:
            known = OpenRun.read(RunFolder(run_url))
            _check_id(known.folder, known.plan, run_id)
        self._remember(run_url, known)
        return known

    def fresh(self, run_url: str, run_id: str) -> OpenRun:
        """Return the run at ``run_url`` as the store has it now.

        Raises:
            RunNotFoundError: There is no run, or it is another one than ``run_id``.
            StorageError: The store failed, or the plan is damaged.
        """
        run = self.open(run_url, run_id).again()
        self._remember(run_url, run)
        return run

    def seen(self) -> list[tuple[str, str]]:
        """Return URL and id of the runs remembered."""
        with self._lock:
            return list(self._open)

    def forget(self, run_url: str, run_id: str) -> None:
        """Drop a run, because it is finished or gone."""
        with self._lock:
            self._open.pop((run_url, run_id), None)

    def _remember(self, run_url: str, run: OpenRun) -> None:
        with self._lock:
            self._open[run_url, run.plan.run_id] = run
            self._open.move_to_end((run_url, run.plan.run_id))
            while len(self._open) > REMEMBERED_RUNS:
                self._open.popitem(last=False)


def _check_id(folder: RunFolder, plan: RunPlan, run_id: str) -> None:
    if plan.run_id != run_id:
        raise RunNotFoundError(f"the run at {folder.url} must be {run_id}, got {plan.run_id}; it was made anew")
