"""How far a run is: read from its store, and from Redis where it still remembers."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from ddim_core.contracts.manifest import ManifestTotals
from ddim_core.contracts.plan import RunPlan
from ddim_core.contracts.queue import Refusals, WorkerReport
from ddim_core.errors import BrokerError, StorageError
from ddim_core.storage.commits import Commits
from ddim_core.storage.reading import read_ahead
from ddim_core.storage.run_folder import RunFolder
from producer.runs.troubles import refusal_line, trouble_line

STORE_PATIENCE_S = 600.0
"""Whoever follows a run waits as long as its workers do, and longer: where it ends, ``run`` ends them."""
State = Literal["queued", "running", "paused", "finished", "cancelled"]

_SPEED_WINDOW_S = 30.0
"""Images come in batches: a shorter window would make the speed jump with each."""
_SPEED_BASE_S = 5.0
_LIST_EVERY_S = 1.0
_LIST_SHARE = 20
"""A large run's parts take seconds to list: not again before this many times as long has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How far a run is, at one moment."""

    run_url: str
    run_id: str
    state: State
    images_total: int
    images_made: int
    images_failed: int
    images_cut: int = 0
    """Images whose prompt or negative prompt is cut, as planned; of a finished run, as made."""
    chunks_total: int
    chunks_done: int
    workers: int | None
    """Workers that are alive on the broker, at this run or at another; None if Redis does not answer."""
    workers_starting: int
    """Those of them that cannot make images yet, because they load and compile."""
    images_per_s: float | None
    eta_s: float | None
    trouble: str = ""
    """Which workers wait for the run's store, or lack its checkpoint, and why, in one line; empty where none does."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to the run by itself."""
        return self.state in ("finished", "cancelled")


class Board(Protocol):
    """What Redis remembers of runs: a ``Broker``, or what a test wrote."""

    def progress(self, run_id: str) -> dict[int, tuple[int, int]]:
        """Return images made and failed by chunk. Raises BrokerError."""
        ...

    def workers(self) -> list[WorkerReport]:
        """Return the reports of the workers that are alive. Raises BrokerError."""
        ...

    def refusals(self, run_id: str) -> Refusals:
        """Return which workers could not load the run's checkpoint. Raises BrokerError."""
        ...


class RunProgress:
    """Reads the status of one run again and again; a chunk that is done is read from the store once."""

    def __init__(self, folder: RunFolder, board: Board | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Watch a run; without a board, from its store alone.

        Raises:
            RunNotFoundError: The folder holds no run.
        """
        self.plan = folder.read_plan()
        self._commits = Commits.of(folder, self.plan)
        self._folder, self._board, self._clock = folder, board, clock
        self._done: dict[int, tuple[int, int]] = {}
        self._kept: dict[int, tuple[int, int]] = {}
        self._samples: deque[tuple[float, int]] = deque()
        self._compiling: frozenset[str] = frozenset()
        self._committed: set[int] = set()
        self._list_at = -math.inf

    def read(self) -> RunStatus:
        """Return how far the run is now.

        Raises:
            StorageError: The store failed. A Redis that does not answer is no error.
        """
        self._take_changes(self._folder.read_plan(self.plan))
        manifest = self._folder.read_totals(self.plan)
        return self._finished(manifest) if manifest else self._unfinished()

    def _take_changes(self, plan: RunPlan) -> None:
        """Start anew where the run was extended, or failed images of it are to be made again."""
        if plan != self.plan:
            self.plan, self._commits = plan, Commits.of(self._folder, plan)
            self._done, self._kept, self._list_at = {}, {}, -math.inf

    def _finished(self, manifest: ManifestTotals) -> RunStatus:
        return self._status(
            state="finished",
            counts=(manifest.images, manifest.failed),
            cut=manifest.cut,
            chunks_done=manifest.chunks,
            reports=self._reports(),
            images_per_s=manifest.images / manifest.seconds if manifest.seconds else None,
        )

    def _unfinished(self) -> RunStatus:
        halted = self._folder.halted()
        committed = self._list_committed(at_once=halted == "cancelled")
        live = {} if halted else self._live_counts()  # chunks in hand are dropped then
        self._read_done(committed, live)
        begun = {**self._read_kept(committed), **live}
        in_hand = [count for chunk, count in begun.items() if chunk not in committed]
        made, failed = _sum([*self._done.values(), *in_hand])
        reports = self._reports()
        return self._status(
            state=halted or self._state(bool(committed) or made + failed > 0, reports or []),
            counts=(made, failed),
            chunks_done=len(committed),
            reports=reports,
            images_per_s=self._speed(made + failed, reports or []),
        )

    def _list_committed(self, *, at_once: bool) -> set[int]:
        """Return the chunks that are done, as of the last listing if that was lately."""
        began = self._clock()
        if at_once or began >= self._list_at:
            self._committed = self._commits.chunks()
            ended = self._clock()
            self._list_at = ended + max(_LIST_EVERY_S, _LIST_SHARE * (ended - began))
        return self._committed

    def _status(
        self,
        *,
        state: State,
        counts: tuple[int, int],
        chunks_done: int,
        reports: list[WorkerReport] | None,
        images_per_s: float | None,
        cut: int | None = None,
    ) -> RunStatus:
        left = self.plan.image_count - sum(counts)
        return RunStatus(
            run_url=self._folder.url,
            run_id=self.plan.run_id,
            state=state,
            images_total=self.plan.image_count,
            images_made=counts[0],
            images_failed=counts[1],
            images_cut=self.plan.cut_images if cut is None else cut,
            chunks_total=self.plan.chunk_count,
            chunks_done=chunks_done,
            workers=None if reports is None else len(reports),
            workers_starting=sum(report.state in ("starting", "compiling") for report in reports or []),
            images_per_s=images_per_s,
            eta_s=left / images_per_s
            if images_per_s and state == "running" and self._is_under_way(reports or [])
            else None,
            trouble="" if state in ("finished", "cancelled") else self._trouble(reports or []),
        )

    def _trouble(self, reports: list[WorkerReport]) -> str:
        lines = refusal_line(self._refusals(), reports), trouble_line(self._folder.url, reports)
        return "; ".join(filter(None, lines))

    def _state(self, begun: bool, reports: list[WorkerReport]) -> State:
        return "running" if begun or self._held_by(reports) else "queued"

    def _compiling_for_it(self, reports: Iterable[WorkerReport]) -> list[WorkerReport]:
        """Return the workers that cannot make this run's images yet, and may in a minute."""
        held = self._held_by(reports)
        return [one for one in reports if one.state == "starting" or (one.state == "compiling" and one in held)]

    def _is_under_way(self, reports: list[WorkerReport]) -> bool:
        """Return whether most of the workers at this run have compiled, so that the speed says when it will end."""
        compiling = self._compiling_for_it(reports)
        return not compiling or len(compiling) < len([one for one in self._held_by(reports) if one not in compiling])

    def _held_by(self, reports: Iterable[WorkerReport]) -> list[WorkerReport]:
        return [report for report in reports if any(held.startswith(f"{self.plan.run_id}/") for held in report.chunks)]

    def _speed(self, images: int, reports: list[WorkerReport]) -> float | None:
        """Return images/s over the last readings, or as long as they span too little, what workers at this run say.

        It is counted from the moment at which the last worker began or ceased to compile: the speed is another then.
        """
        now = self._clock()
        compiling = frozenset(report.worker_id for report in self._compiling_for_it(reports))
        if images == 0 or compiling != self._compiling:
            self._samples.clear()
        self._compiling = compiling
        self._samples.append((now, images))
        while self._samples[0][0] < now - _SPEED_WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()
        since, before = self._samples[0]
        if images > before and now - since >= _SPEED_BASE_S:
            return (images - before) / (now - since)
        return sum(report.images_per_s for report in self._held_by(reports)) or None

    def _read_done(self, committed: set[int], live: dict[int, tuple[int, int]]) -> None:
        """Learn what new chunks came to: from Redis if it counted all their images, else from the store."""
        new = committed - self._done.keys()
        counted = {chunk for chunk in new if sum(live.get(chunk, ())) == self.plan.images_in(chunk)}
        self._done.update({chunk: live[chunk] for chunk in counted})
        self._done.update(self._read_stats(new - self._done.keys()))

    def _read_kept(self, committed: set[int]) -> dict[int, tuple[int, int]]:
        """Return what is made already of chunks whose failed images are to be made again."""
        new = self._commits.ordered.keys() - committed - self._kept.keys()
        self._kept.update({chunk: (images, 0) for chunk, (images, _) in self._read_stats(new).items()})
        return self._kept

    def _read_stats(self, chunks: set[int]) -> dict[int, tuple[int, int]]:
        def read(chunk: int) -> tuple[int, tuple[int, int]]:
            stats = self._folder.read_stats(chunk)
            return chunk, (stats.images, stats.failed)  # of a large run, all totals would not fit

        return dict(read_ahead(read, sorted(chunks)))

    def _live_counts(self) -> dict[int, tuple[int, int]]:
        try:
            return self._board.progress(self.plan.run_id) if self._board else {}
        except BrokerError:
            return {}

    def _refusals(self) -> Refusals:
        try:
            return self._board.refusals(self.plan.run_id) if self._board else Refusals()
        except BrokerError:
            return Refusals()

    def _reports(self) -> list[WorkerReport] | None:
        try:
            return self._board.workers() if self._board else None
        except BrokerError:
            return None


def patient(read: Callable[[], RunStatus]) -> Callable[[], RunStatus | StorageError]:
    """Return a reader that answers with the error while the store fails, for whoever reads again and again.

    It raises StorageError when the store has failed for longer than ``STORE_PATIENCE_S``.
    """
    answered_at = time.monotonic()

    def read_patiently() -> RunStatus | StorageError:
        nonlocal answered_at
        try:
            status = read()
        except StorageError as exc:
            if time.monotonic() - answered_at > STORE_PATIENCE_S:
                raise
            return exc
        answered_at = time.monotonic()
        return status

    return read_patiently


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    made, failed = 0, 0
    for chunk_made, chunk_failed in counts:
        made, failed = made + chunk_made, failed + chunk_failed
    return made, failed
