"""Submit a run: check everything, write it to the store, then queue it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ddim_core.contracts.plan import RunPlan
from ddim_core.contracts.queue import WorkerReport
from ddim_core.errors import Fault, FleetError, RunExistsError
from ddim_core.storage.objects import normalise_url
from ddim_core.storage.run_folder import PLAN, RunFolder
from producer.broker import Broker
from producer.requests.advice import Advice, advice_on
from producer.requests.expansion import NAME_SEPARATOR
from producer.requests.fleet_limits import FleetLimits
from producer.requests.input_images import Pictures
from producer.requests.model import Model, read_model
from producer.requests.rows import Row
from producer.requests.spool import Spool, chunk_files, spooled
from producer.requests.validate import RequestChecker, checked
from producer.requests.workload import Workload
from producer.runs.control import enqueue
from producer.runs.options import RunOptions
from producer.runs.planning import is_same_run, plan_run
from producer.runs.recommendation import with_recommended

_WRITERS = 8


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """A run that is fit to be made, of which nothing is written or queued yet."""

    folder: RunFolder
    plan: RunPlan
    spool: Spool
    pictures: Pictures

    def written_plan(self) -> RunPlan | None:
        """Return the plan that the folder holds, if it is of this same run, and None if it holds no run.

        Raises:
            RunExistsError: The folder holds another run, or what is left of one.
        """
        if not self.folder.has_plan():
            if self.folder.committed_chunks():
                raise RunExistsError(
                    f"the output must be a folder without a run, but {self.folder.url} holds parts of one that has no "
                    "run.json; choose another"
                )
            self._refuse_another(self.folder.read_claim())
            return None
        written = self.folder.read_plan()
        if not is_same_run(written, self.plan):
            raise RunExistsError(
                f"the output must be a folder without a run, but {self.folder.url} holds another one "
                f"({written.image_count} images, {written.created_at}); choose another"
            )
        return written

    def write(self) -> RunPlan:
        """Write the pictures and the chunks, then the plan, which makes them a run; return the plan.

        Its name is that of an earlier try at this same run, if that one came as far as to claim the folder.

        Raises:
            OutputError: The store takes no objects.
            RunExistsError: Somebody else's run got there first.
        """
        self.folder.store.check_writable()
        claimed = self.folder.claim(self.plan)
        self._refuse_another(claimed)
        plan = self.plan.model_copy(update={"run_id": claimed.run_id, "created_at": claimed.created_at})
        self.pictures.write(self.folder)
        write_chunks(self.folder, chunk_files(self.spool, plan.images_per_chunk))
        self.folder.write_plan(plan)
        self._check_claim(plan)
        return plan

    def _refuse_another(self, claimed: RunPlan | None) -> None:
        """Raise RunExistsError if the folder is claimed for another run; this same one may be finished by anybody."""
        if claimed is not None and not is_same_run(claimed, self.plan):
            url = self.folder.url
            raise RunExistsError(
                f"the output must be a folder without a run, but {url} is claimed by run {claimed.run_id} "
                f"({claimed.image_count} images, {claimed.created_at}); choose another, or, if its producer died "
                f"before it wrote {PLAN}, give that one's command again or delete the folder"
            )

    def _check_claim(self, plan: RunPlan) -> None:
        """Raise RunExistsError if another producer took the folder too, as a store without conditional puts lets it."""
        claimed = self.folder.read_claim()
        if claimed is None or claimed.run_id != plan.run_id:
            if self.folder.has_plan() and self.folder.read_plan().run_id == plan.run_id:
                self.folder.remove_plan()
            raise RunExistsError(
                f"the output must be one run's alone, but another producer claimed {self.folder.url} at the same "
                "moment; nothing is queued, choose another folder"
            )


def write_chunks(folder: RunFolder, files: Iterable[bytes], first_chunk: int = 0) -> None:
    """Write chunk files, a few at once: a store's delay, not its bandwidth, sets the pace.

    Raises:
        StorageError: The store failed; some files may have been written.
    """
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="write-chunks") as writers:
        pending: deque[Future[None]] = deque()
        for chunk, data in enumerate(files, first_chunk):
            if len(pending) == _WRITERS:  # no more in memory than are being written
                pending.popleft().result()
            pending.append(writers.submit(folder.write_chunk, chunk, data))
        for written in pending:
            written.result()


@contextmanager
def prepared(
    rows: Iterable[Row | Fault], source: str, options: RunOptions, workers: Iterable[WorkerReport] = ()
) -> Iterator[PreparedRun]:
    """Check a run whole, without writing to its store; ``source`` names the input in messages.

    What none of the ``workers`` would make is refused, too.

    Raises:
        RequestFaults: The requests have faults.
        InputError: There are none, or the output or the checkpoint cannot be used.
    """
    url = normalise_url(options.out)
    options, model = _with_model(replace(options, name_separator=_separator_at(url)))
    with Pictures() as pictures, _spooled(_Input(rows, source, workers), options, model, pictures) as spool:
        yield PreparedRun(RunFolder(url), plan_run(spool, model, options), spool, pictures)


def _separator_at(url: str) -> str:
    """Return how the run that a folder holds or is claimed for names requests of one line: it may be this same one."""
    try:
        folder = RunFolder(url)
        plan = folder.read_plan() if folder.has_plan() else folder.read_claim()
    except FleetError:
        return NAME_SEPARATOR  # who needs the folder will say what is wrong with it, after all faults of the requests
    return NAME_SEPARATOR if plan is None else plan.name_separator


def workload_of(
    rows: Iterable[Row | Fault], source: str, options: RunOptions, workers: Iterable[WorkerReport] = ()
) -> Workload:
    """Check the requests of a run as ``prepared`` does, and return what they come to.

    Raises:
        RequestFaults: The requests have faults.
        InputError: There are none, or the checkpoint cannot be used.
    """
    options, model = _with_model(options)
    with Pictures() as pictures, _spooled(_Input(rows, source, workers), options, model, pictures) as spool:
        return spool.workload


def _with_model(options: RunOptions) -> tuple[RunOptions, Model]:
    model = read_model(options.model, options.variant, recommended=options.settings == "recommended")
    return with_recommended(options, model)


@dataclass(frozen=True, slots=True)
class _Input:
    rows: Iterable[Row | Fault]
    source: str
    workers: Iterable[WorkerReport]


@contextmanager
def _spooled(given: _Input, options: RunOptions, model: Model, pictures: Pictures) -> Iterator[Spool]:
    limits = FleetLimits.known(options.limits, given.workers)
    checker = RequestChecker(
        model, options.request_defaults, image_format=options.encoding.format, pictures=pictures, limits=limits
    )
    requests = checked(given.rows, checker, given.source, options.lists, options.name_separator)
    with spooled(requests, checker.prompts.windows) as spool:
        limits.check_run(spool.workload.requests, spool.workload.images)
        spool.workload.advice = advice_on(model, spool.workload.all_sizes())
        yield spool


def submit(
    rows: Iterable[Row | Fault],
    source: str,
    options: RunOptions,
    broker: Broker,
    tell: Callable[[Advice], None] = lambda _: None,
) -> RunFolder:
    """Write and queue a run, and return its folder; if anything is wrong with it, do neither.

    ``tell`` is given what a person should know of its model, once it is queued.

    Raises:
        InputError: The input or the output cannot be used, or holds a run already.
        BrokerError: Redis does not answer.
    """
    broker.ping()
    with prepared(rows, source, options, broker.workers()) as run:
        if run.written_plan() is not None:
            raise RunExistsError(
                f"the output must be a folder without a run, but {run.folder.url} holds this same one; "
                f"to go on with it: ddim-fleet resume {run.folder.url}"
            )
        enqueue(run.folder, run.write(), broker)
        tell(run.spool.workload.advice)
    return run.folder
