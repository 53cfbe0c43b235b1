"""More requests for a run that is there: after those it has, under its options, and never half of them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest
from PIL import Image

from ddim_core.contracts.queue import DEFAULT_QUEUE
from ddim_core.storage.changes import change_path, extension_claim_path
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import MANIFEST, RunFolder, chunk_path
from producer import Client
from producer.client import Run
from producer.verify import RunCheck
from tests.integration.fleet_command import FleetCommand, started
from tests.integration.worker_host import Workers, wait_for
from tools.servers import RedisServer

StartWorkers = Callable[..., Workers]
MORE = [{"prompt": f"a moon {n}"} for n in range(5)]


@pytest.fixture
def run(redis_server: RedisServer, fleet: FleetCommand) -> Run:
    """Give a run of ten images in three chunks, the last one short, of which nothing is made."""
    requests = [{"prompt": f"a star {n}", "custom_id": f"star-{n}"} for n in range(10)]
    defaults = {"num_inference_steps": 2, "height": 32, "width": 32}
    options = {"images_per_chunk": 4, "seed": 7, "defaults": defaults}
    return Client(redis_server.url).submit(requests, out=str(fleet.folder / "run"), **options)


def files(folder: RunFolder) -> dict[str, bytes]:
    """Return the chunks, shards and parts of a run."""
    paths = [path for prefix in ("chunks", "shards", "parts") for path, _ in folder.store.list(prefix)]
    return {path: folder.store.get(path) for path in paths}


def test_a_finished_run_is_extended_and_ends_whole_again(
    run: Run, fleet: FleetCommand, redis_server: RedisServer, start_workers: StartWorkers
) -> None:
    """Old chunks keep every byte; new requests come after them with the run's defaults, and are numbered on."""
    folder = RunFolder(run.url)
    start_workers("sim:2:1")
    assert run.wait(timeout_s=120).images_made == 10
    before = files(folder)
    fleet.write("more.jsonl", "".join(json.dumps(line) + "\n" for line in MORE))
    done = fleet("extend", "run", "more.jsonl", "--broker", redis_server.url)
    assert (done.returncode, done.stderr) == (0, f"added 5 images in 2 chunks to {folder.url}\n")
    status = run.wait(timeout_s=120)
    assert (status.state, status.images_made, status.images_total, status.chunks_done) == ("finished", 15, 15, 5)
    assert {path: data for path, data in files(folder).items() if path in before} == before
    rows = list(folder.records())
    assert [row.request_index for row in rows] == list(range(15))
    assert [row.custom_id for row in rows[10:]] == [f"{n:09d}" for n in range(10, 15)]
    assert {(row.num_inference_steps, row.height) for row in rows} == {(2, 32)}
    assert len({row.seed for row in rows}) == 15
    assert list(RunCheck(folder).faults()) == []


def test_an_unfinished_run_is_extended_twice(run: Run, fleet: FleetCommand, start_workers: StartWorkers) -> None:
    """A chunk before an extension stays short; each extension counts from the end of the last."""
    assert (run.extend(MORE), run.extend([{"prompt": "a sun", "num_images_per_prompt": 6}])) == (5, 6)
    plan = RunFolder(run.url).read_plan()
    assert (plan.chunk_count, plan.image_count, plan.request_count, plan.generation) == (7, 21, 16, 2)
    assert [plan.images_in(chunk) for chunk in range(7)] == [4, 4, 2, 4, 1, 4, 2]
    start_workers("sim:2:1")
    assert run.wait(timeout_s=120).images_made == 21
    assert list(RunCheck(RunFolder(run.url)).faults()) == []


def test_a_name_that_the_run_has_is_refused_with_its_line(
    run: Run, fleet: FleetCommand, redis_server: RedisServer
) -> None:
    """Whichever chunk it stands in; nothing is written then."""
    fleet.write("more.jsonl", '{"prompt": "new", "custom_id": "moon"}\n{"prompt": "old", "custom_id": "star-9"}\n')
    before = files(RunFolder(run.url))
    done = fleet("extend", "run", "more.jsonl", "--broker", redis_server.url)
    assert done.returncode == 1
    assert "more.jsonl:2: custom_id must be unique, got 'star-9', which the run has already" in done.stderr
    assert files(RunFolder(run.url)) == before and RunFolder(run.url).read_plan().generation == 0


@pytest.mark.parametrize("dies_at", ["changes/extension_00003_claim.json", "chunks/00004.jsonl", "changes/0001.json"])
def test_a_command_that_dies_leaves_the_run_as_it_was_or_extended(
    run: Run, fleet: FleetCommand, monkeypatch: pytest.MonkeyPatch, start_workers: StartWorkers, dies_at: str
) -> None:
    """After its last write the run has all new requests or none, and the same command goes on where it can."""
    start_workers("sim:2:1")
    assert run.wait(timeout_s=120).state == "finished"
    folder = RunFolder(run.url)
    with monkeypatch.context() as dying:
        for verb in ("put", "put_new"):
            dying.setattr(ObjectStore, verb, _dying_after(dies_at, getattr(ObjectStore, verb)))
        with pytest.raises(SystemExit):
            run.extend(MORE)
    if dies_at == change_path(1):
        assert folder.store.exists(MANIFEST) and folder.read_manifest() is None
        assert run.status().images_total == 15 and run.resume() == 2
    else:
        assert run.status().state == "finished" and list(RunCheck(folder).faults()) == []
        assert run.extend(MORE) == 5
    assert run.wait(timeout_s=120).images_made == 15
    assert list(RunCheck(folder).faults()) == []


def test_what_a_dead_command_began_is_not_mixed_with_another(
    run: Run, fleet: FleetCommand, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has other requests is told, and may take over."""
    with monkeypatch.context() as dying:
        dying.setattr(ObjectStore, "put", _dying_after("chunks/00003.jsonl", ObjectStore.put))
        with pytest.raises(SystemExit):
            run.extend(MORE)
    fleet.write("other.txt", "a sun\n")
    done = fleet("extend", "run", "other.txt", "--broker", redis_server.url)
    assert done.returncode == 1 and "to add 5 images to" in done.stderr and "--take-over" in done.stderr
    assert fleet("extend", "run", "other.txt", "--take-over", "--broker", redis_server.url).returncode == 0
    plan = RunFolder(run.url).read_plan()
    assert (plan.chunk_count, plan.image_count) == (4, 11)
    assert [line.request.prompt for line in RunFolder(run.url).read_chunk(3)] == ["a sun"]


def test_an_extension_that_is_killed_can_be_given_again(
    run: Run, fleet: FleetCommand, redis_server: RedisServer
) -> None:
    """A real process, killed while it writes chunks; then Redis is wiped; given again, all of it is queued."""
    folder = RunFolder(run.url)
    fleet.write("more.jsonl", "".join(json.dumps({"prompt": f"a moon {n}"}) + "\n" for n in range(800)))
    command = ("extend", "run", "more.jsonl", "--broker", redis_server.url)
    with started(fleet.folder, *command) as dying:
        wait_for(lambda: folder.store.exists(chunk_path(3)) or dying.poll() is not None, 120)
        dying.send_signal(signal.SIGKILL)
    assert folder.read_plan().generation == 0 and folder.store.exists(extension_claim_path(3))
    with redis_server.client() as board:
        board.flushall()
        assert fleet(*command).returncode == 0
        plan = folder.read_plan()
        assert (plan.chunk_count, plan.image_count) == (203, 810)
        assert board.llen(DEFAULT_QUEUE) == 203


def test_the_checkpoint_must_be_the_run_s(run: Run, fleet: FleetCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one of the same name would make another kind of image."""
    folder = RunFolder(run.url)
    plan = folder.store.get("run.json").replace(b'"digest": "sha256:', b'"digest": "sha256:00')
    folder.store.put("run.json", plan)
    done = fleet("extend", "run", str(fleet.write("more.txt", "a moon\n")), "--broker", "redis://127.0.0.1:1/0")
    assert done.returncode == 2  # Redis is asked first
    with pytest.raises(Exception, match=r"^checkpoint shapes must have digest sha256:00.*; put it back$"):
        run.extend(MORE)


def _dying_after(path: str, verb: Callable[..., object]) -> Callable[..., object]:
    def dying(store: ObjectStore, at: str, data: bytes) -> object:
        answer = verb(store, at, data)
        if at == path:
            raise SystemExit(137)
        return answer

    return dying


def test_an_extension_brings_its_pictures_into_the_run(run: Run, fleet: FleetCommand) -> None:
    """And workers are told to compile for them, which they were not when the run was planned."""
    Image.new("RGB", (32, 32), "red").save(fleet.folder / "red.png")
    assert run.extend([{"prompt": "a square", "invert": {"image": "red.png"}}]) == 1
    folder = RunFolder(run.url)
    ((path, _),) = folder.store.list("inputs")
    assert folder.store.get(path) == (fleet.folder / "red.png").read_bytes()
    assert folder.read_plan().inverting
    (line,) = folder.read_chunk(3)
    assert line.request.invert is not None and line.request.invert.image == path
