"""Finished runs made by the workers' own code, without Redis, Celery or MindSpore: what loaders get to read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from ddim_core.contracts.plan import Container, chunk_items
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.errors import SampleError
from ddim_core.storage.run_folder import RunFolder
from tests.integration.worker_host import plan_run
from tests.unit.workers.samples import FACTS, ScriptedSampler, loaded
from workers.chunks.commit import Clock, commit_chunk
from workers.chunks.maker import ChunkMaker
from workers.chunks.progress import Progress
from workers.chunks.records import RecordMaker
from workers.coordination.connection import Board
from workers.coordination.leases import Leases
from workers.coordination.run_notes import Tally
from workers.finishing.finisher import Finisher
from workers.meter import Meter
from workers.runs import OpenRun, Runs
from workers.samplers.simulated import FAIL_PROMPT, draw

IMAGES_PER_CHUNK = 4
NO_REDIS = "redis://127.0.0.1:1/0"


def finished_run(
    url: str, requests: Sequence[Request], container: Container = "webdataset", **fields: object
) -> RunFolder:
    """Return a run of which every chunk is committed and the manifest written; prompts that begin sim:fail fail.

    Further ``fields`` are the plan's, such as ``image_format``.
    """
    folder = plan_run(url, requests, images_per_chunk=IMAGES_PER_CHUNK, container=container, **fields)
    run, board = OpenRun.read(folder), Board(NO_REDIS)
    with ThreadPoolExecutor(2) as encoders:
        for chunk in range(run.plan.chunk_count):
            _make(run, chunk, board, encoders)
    assert Finisher(board, Leases(board, "host/sim:0/1"), Runs()).finish(run)
    return folder


def _make(run: OpenRun, chunk: int, board: Board, encoders: ThreadPoolExecutor) -> None:
    tally, clock = Tally(board, run.plan.run_id), Clock()
    records = RecordMaker(run.plan, FACTS, "host/sim:0/1", 1)
    progress = Progress(tally, chunk, Meter())
    maker = ChunkMaker(run.folder, chunk, loaded(_Drawing()), encoders, records, progress)
    items = list(chunk_items(run.plan, chunk, run.folder.read_chunk(chunk)))
    commit_chunk(run.commits, chunk, maker.make(items), records, clock)


class _Drawing(ScriptedSampler):
    def submit(self, spec: SampleSpec) -> Future[SampledImage]:
        image: Future[SampledImage] = Future()
        if spec.prompt.startswith(FAIL_PROMPT):
            image.set_exception(SampleError("it failed, as its prompt asked"))
        else:
            image.set_result(SampledImage(draw(spec), seconds=0.5, slots=2))
        return image
