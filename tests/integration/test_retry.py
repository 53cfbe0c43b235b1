"""Failed images made again: what is good stays as it is, and nothing is lost whatever dies on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ddim_core.contracts.changes import RetryOrder
from ddim_core.contracts.plan import Container
from ddim_core.contracts.queue import ChunkMessage
from ddim_core.contracts.record import FAILED, SUCCESS
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.errors import NotFiniteError
from ddim_core.storage.changes import add_change
from ddim_core.storage.commits import Commits
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import MANIFEST, RunFolder, part_path, shard_path
from producer import Client
from producer.runs import failures
from producer.verify import RunCheck
from tests.integration.fleet_command import FleetCommand, started
from tests.integration.test_reconciler import Bench
from tests.integration.worker_host import PATIENCE_S, Workers, plan_run, wait_for
from tests.unit.workers.samples import picture
from tools.servers import RedisServer
from workers.coordination.suspects import LIMIT

StartWorkers = Callable[..., Workers]
BAD = ("bad 1", "bad 5")


@pytest.fixture
def bench(redis_server: RedisServer) -> Bench:
    """Give the parts of a worker process whose sampler fails for the prompts in ``BAD``."""
    made = Bench(redis_server)
    made.sampler.answer = fail_for_bad_ones
    return made


def fail_for_bad_ones(spec: SampleSpec) -> SampledImage:
    """Return a picture, or fail."""
    if spec.prompt in BAD:
        raise NotFiniteError("the image holds NaN")
    return picture(spec)


def finished(bench: Bench, path: Path | str, container: Container = "webdataset") -> RunFolder:
    """Return a finished run of three chunks with three images each, of which two failed, in the first two chunks."""
    prompts = [f"bad {n}" if f"bad {n}" in BAD else f"good {n}" for n in range(9)]
    requests = [Request(prompt=prompt, num_inference_steps=1, seed=n) for n, prompt in enumerate(prompts)]
    folder = plan_run(str(path), requests, images_per_chunk=3, container=container)
    Client(bench.server.url).run(folder.url).resume()
    work(bench, folder)
    assert folder.read_manifest() is not None
    return folder


def work(bench: Bench, folder: RunFolder) -> None:
    """Do what is queued."""
    for chunk in bench.queued():
        bench.chunks.sample(ChunkMessage(run_url=folder.url, run_id=folder.read_plan().run_id, chunk=chunk))
    bench.redis.delete("ddim-fleet")


def files(folder: RunFolder) -> dict[str, bytes]:
    """Return every object of the run that readers take, by its path."""
    paths = [path for prefix in ("shards", "images", "parts") for path, _ in folder.store.list(prefix)]
    return {path: folder.store.get(path) for path in paths}


@pytest.mark.parametrize("container", ["webdataset", "imagefolder"])
def test_only_the_failed_images_are_made_again(bench: Bench, fleet: FleetCommand, container: Container) -> None:
    """Chunks without a failure keep their files, good rows theirs; the new manifest holds for what is there then."""
    folder = finished(bench, fleet.folder / "run", container)
    before, rows = files(folder), {row.key: row for row in folder.records()}
    listed = [json.loads(line) for line in fleet("failed", "run", "--json").stdout.splitlines()]
    assert [image["key"] for image in listed] == ["000000001", "000010002"]
    assert listed[0]["custom_id"] == "r1" and listed[0]["attempts"] == 1
    assert [listed[0][f"error_{part}"] for part in ("code", "class")] == ["not_finite", "NotFiniteError"]
    assert listed[0]["error_message"] == "the image holds NaN"

    bench.sampler.answer, bench.sampler.submitted = picture, []
    done = fleet("resume", "--failed", "run", "--broker", bench.server.url)
    assert (done.returncode, done.stderr) == (0, f"2 failed images of {folder.url} will be made again\n")
    assert folder.read_manifest() is None and not folder.store.exists(MANIFEST)
    status = Client(bench.server.url).run(folder.url).status()
    assert (status.state, status.images_made, status.images_failed, status.chunks_done) == ("running", 7, 0, 1)
    assert sorted(bench.queued()) == [0, 1]
    work(bench, folder)

    assert sorted(spec.prompt for spec in bench.sampler.submitted) == list(BAD)
    assert list(RunCheck(folder).faults()) == []
    after = {row.key: row for row in folder.records()}
    assert all(row.status == SUCCESS for row in after.values())
    assert {key: row for key, row in after.items() if rows[key].status == SUCCESS} == {
        key: row for key, row in rows.items() if row.status == SUCCESS
    }
    assert {after[key].attempts for key in ("000000001", "000010002")} == {2}
    untouched = [path for path in before if "00002" in path]
    assert untouched and all(files(folder)[path] == before[path] for path in untouched)
    done = fleet("failed", "run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"0 failed images in {folder.url}\n")


def test_a_run_in_a_bucket_is_mended_and_extended(bench: Bench, s3_url: str) -> None:
    """Marks are listed by their folder there, and changes written on a condition."""
    folder = finished(bench, f"{s3_url}/run")
    run = Client(bench.server.url).run(folder.url)
    assert run.retry_failed() == 2
    bench.sampler.answer = picture
    assert Commits.of(folder, folder.read_plan()).chunks() == {2}
    work(bench, folder)
    assert Commits.of(folder, folder.read_plan()).chunks() == {0, 1, 2}
    assert list(RunCheck(folder).faults()) == [] and all(row.status == SUCCESS for row in folder.records())
    plan = folder.read_plan()
    again = RetryOrder(created_at="2026-01-01T00:00:00+00:00", name="0123456789abcdef", images=1, chunks=1)
    assert add_change(folder.store, plan, again) is not None and add_change(folder.store, plan, again) is None
    assert folder.read_plan().generation == 2


def test_an_image_that_fails_again_is_a_failed_row_with_more_attempts(bench: Bench, fleet: FleetCommand) -> None:
    """The order is then done with; another one may follow."""
    folder = finished(bench, fleet.folder / "run")
    for attempts in (2, 3):
        assert Client(bench.server.url).run(folder.url).retry_failed() == 2
        work(bench, folder)
        assert {row.attempts for row in folder.records() if row.status == FAILED} == {attempts}
        assert list(RunCheck(folder).faults()) == []
    assert folder.read_plan().generation == 2
    assert fleet("resume", "run", "--broker", bench.server.url).stderr.startswith("nothing to queue")


@pytest.mark.parametrize("dies_at", ["shards/00000.tar", "parts/00000_stats.json", "parts/00000.parquet", "retries/"])
def test_a_worker_that_dies_while_it_replaces_a_chunk_loses_nothing(
    bench: Bench, fleet: FleetCommand, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    """Whatever was the last thing that it wrote, the next worker ends with the same files, and Redis may be empty."""
    folder = finished(bench, fleet.folder / "run")
    Client(bench.server.url).run(folder.url).retry_failed()
    bench.sampler.answer, put = picture, ObjectStore.put

    def put_and_die(store: ObjectStore, path: str, data: bytes) -> None:
        if path.startswith(dies_at) and dies_at == "retries/":
            raise SystemExit(137)
        put(store, path, data)
        if path == dies_at:
            raise SystemExit(137)

    with monkeypatch.context() as dying:
        dying.setattr(ObjectStore, "put", put_and_die)
        with pytest.raises(SystemExit):
            bench.chunks.sample(ChunkMessage(run_url=folder.url, run_id=folder.read_plan().run_id, chunk=0))
    assert folder.read_manifest() is None
    bench.redis.flushall()
    Client(bench.server.url).run(folder.url).resume()
    work(bench, folder)
    assert [row.status for row in folder.records()] == [SUCCESS] * 9
    assert list(RunCheck(folder).faults()) == []


def test_a_command_that_dies_before_its_order_leaves_the_run_as_it_was(
    bench: Bench, fleet: FleetCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of chunks alone means nothing; the order is one object."""
    folder = finished(bench, fleet.folder / "run")
    before = files(folder)
    with monkeypatch.context() as dying:
        dying.setattr(failures, "add_change", _die)
        with pytest.raises(SystemExit):
            Client(bench.server.url).run(folder.url).retry_failed()
    assert folder.read_manifest() is not None and list(RunCheck(folder).faults()) == [] and files(folder) == before
    assert Client(bench.server.url).run(folder.url).status().state == "finished"


def test_a_command_that_dies_after_its_order_is_finished_by_resume(
    bench: Bench, fleet: FleetCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is still there then, but nobody takes it for that of the run; nothing is ordered twice."""
    folder = finished(bench, fleet.folder / "run")
    with monkeypatch.context() as dying:
        dying.setattr(RunFolder, "remove_manifest", _die)
        with pytest.raises(SystemExit):
            Client(bench.server.url).run(folder.url).retry_failed()
    assert folder.store.exists(MANIFEST) and folder.read_manifest() is None
    assert Client(bench.server.url).run(folder.url).status().state == "running"
    assert fleet("verify", "run").returncode == 1
    bench.sampler.answer = picture
    bench.redis.flushall()
    assert Client(bench.server.url).run(folder.url).resume() == 2
    assert Client(bench.server.url).run(folder.url).retry_failed() == 2
    assert folder.read_plan().generation == 1
    work(bench, folder)
    assert list(RunCheck(folder).faults()) == [] and all(row.status == SUCCESS for row in folder.records())


def test_a_manifest_added_up_before_the_order_does_not_count(bench: Bench, fleet: FleetCommand) -> None:
    """A worker may be adding up the run while the order is given, and put the old manifest back."""
    folder = finished(bench, fleet.folder / "run")
    old = folder.store.get(MANIFEST)
    Client(bench.server.url).run(folder.url).retry_failed()
    folder.store.put(MANIFEST, old)
    assert folder.read_manifest() is None and folder.read_totals() is None
    bench.sampler.answer = picture
    work(bench, folder)
    assert list(RunCheck(folder).faults()) == [] and all(row.status == SUCCESS for row in folder.records())


def test_an_image_that_is_damaged_in_its_shard_is_made_again_too(bench: Bench, fleet: FleetCommand) -> None:
    """What the row says must be there to be kept."""
    folder = finished(bench, fleet.folder / "run")
    folder.store.put(shard_path(0), folder.store.get(shard_path(0))[:700])
    Client(bench.server.url).run(folder.url).retry_failed()
    bench.sampler.answer = picture
    work(bench, folder)
    assert list(RunCheck(folder).faults()) == [] and all(row.status == SUCCESS for row in folder.records())


def test_the_reconciler_queues_an_order_that_redis_lost(bench: Bench, fleet: FleetCommand) -> None:
    """Parts are there, and yet their chunks are to be done."""
    folder = finished(bench, fleet.folder / "run")
    Client(bench.server.url).run(folder.url).retry_failed()
    bench.redis.delete("ddim-fleet")
    for _ in range(3):
        bench.round()
    assert sorted(bench.queued()) == [0, 1]
    assert Commits.of(folder, folder.read_plan()).chunks() == {2} and folder.is_committed(0)


def test_workers_make_failed_images_again_after_a_kill_and_a_loss_of_redis(
    redis_server: RedisServer, fleet: FleetCommand, start_workers: StartWorkers
) -> None:
    """With real processes: the command is killed, then the workers, Redis is wiped, and the run ends whole."""
    prompts = [f"sim:fail {n}" if n % 4 == 0 else f"a star {n}" for n in range(24)]
    requests = [Request(prompt=prompt, num_inference_steps=2, seed=n) for n, prompt in enumerate(prompts)]
    folder = plan_run(str(fleet.folder / "run"), requests, images_per_chunk=4)
    run = Client(redis_server.url).run(folder.url)
    run.resume()
    workers = start_workers("sim:1:1")
    assert run.wait(timeout_s=120).images_failed == 6
    parts = {chunk: folder.store.get(part_path(chunk)) for chunk in range(6)}
    command = ("resume", "--failed", "run", "--broker", redis_server.url)
    with started(fleet.folder, *command) as dying:
        wait_for(lambda: list(folder.store.list("retries")) or dying.poll() is not None, 120)
        dying.kill()
    assert fleet(*command).returncode == 0
    workers.launcher.kill()
    with redis_server.client() as board:
        board.flushall()
    start_workers("sim:1:1")
    run.resume()
    status = run.wait(timeout_s=120)
    assert (status.images_made, status.images_failed) == (18, 6)  # they fail by their prompt
    # Three, where the killed command's order had been carried out already when the next one was given.
    assert {row.attempts for row in folder.records() if row.status == FAILED} <= {2, 3}
    assert all(folder.store.get(part_path(chunk)) != part for chunk, part in parts.items())
    assert list(RunCheck(folder).faults()) == []


@pytest.mark.slow
def test_poison_is_listed_by_its_kind_and_can_be_tried_again(
    fleet: FleetCommand, redis_server: RedisServer, start_workers: StartWorkers
) -> None:
    """Its chunk is on trial at once then; what fails again is a failed row again, and the good rows stay."""
    kinds = {
        "sim:fail": "sample_failed",
        "sim:nan": "not_finite",
        "sim:oom": "out_of_memory",
        "sim:segv": "worker_lost",
    }
    requests = [Request(prompt=prompt, num_inference_steps=1) for prompt in ("a fox", *kinds, "a fir")]
    folder = plan_run(str(fleet.folder / "run"), requests, images_per_chunk=6)
    run = Client(redis_server.url).run(folder.url)
    run.resume()
    workers = start_workers("sim:1:1")
    assert run.wait(timeout_s=PATIENCE_S).images_failed == len(kinds)
    first = list(folder.records())
    assert [row.error_code for row in first] == [None, *kinds.values(), None]
    lines = fleet("failed", "run").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == [row.key for row in first if row.status == FAILED]
    assert [line.split("  ")[3].partition(":")[0] for line in lines] == list(kinds.values())
    assert lines[-1].split("  ")[1:] == ["r4", f"{LIMIT + 2} attempts", f"worker_lost: {first[4].error_message}"]

    assert workers.text().count("action=worker_died") == 1 + LIMIT
    workers.stop()
    assert fleet("resume", "--failed", "run", "--broker", redis_server.url).returncode == 0
    workers = start_workers("sim:1:1")
    assert run.wait(timeout_s=PATIENCE_S).images_failed == len(kinds)
    again = list(folder.records())
    assert [row.error_code for row in again] == [row.error_code for row in first]
    assert [again[0], again[5]] == [first[0], first[5]]
    assert {row.attempts for row in again if row.status == FAILED} == {first[4].attempts + LIMIT + 1}
    assert workers.text().count("action=worker_died") == LIMIT
    assert list(RunCheck(folder).faults()) == []


def _die(*_: object, **__: object) -> None:
    raise SystemExit(137)
