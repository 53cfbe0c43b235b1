"""What happens to a run when workers die and Redis forgets: it ends all the same, with every image once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ddim_core.contracts.queue import LEASE_S, LEASES_PATTERN
from ddim_core.contracts.record import FAILED, SUCCESS
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder
from tests.integration.worker_host import (
    PATIENCE_S,
    Workers,
    plan_run,
    reports,
    send,
    shard_hashes,
    shard_members,
    wait_for,
)
from tools.servers import RedisServer
from workers.coordination.suspects import LIMIT

pytestmark = pytest.mark.slow

StartWorkers = Callable[..., Workers]

REQUESTS: Sequence[Request] = [
    Request(prompt=f"a leaf {n}", num_images_per_prompt=12, num_inference_steps=20) for n in range(12)
]
"""144 images in 18 chunks; at 10 ms a step and 4 slots about four seconds for two workers."""


def test_the_chunks_of_a_killed_worker_are_taken_over_and_come_out_the_same(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """After kill -9 its chunks are in other hands within seconds, and every shard comes out with the same bytes."""
    calm = plan_run(str(tmp_path / "calm"), REQUESTS)
    folder = plan_run(str(tmp_path / "run"), REQUESTS)
    workers = start_workers("sim:2:10")
    workers.wait_ready(2)
    send(redis_server, calm)
    wait_for(lambda: calm.read_manifest() is not None, PATIENCE_S, workers.text)
    send(redis_server, folder)
    pid, _ = _busy_worker(redis_server)
    os.kill(pid, signal.SIGKILL)
    _assert_whole(folder, workers, timeout_s=PATIENCE_S)
    assert shard_hashes(folder) == shard_hashes(calm)
    assert workers.text().count("action=chunk_taken_over") >= 1
    wait_for(lambda: workers.text().count(" is ready, pid ") == 3, PATIENCE_S, workers.text)


def test_the_chunks_of_a_host_that_vanished_are_taken_over_when_their_leases_run_out(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """With its launcher dead too, nobody says that the worker is gone: its lease must run out."""
    folder = plan_run(str(tmp_path / "run"), REQUESTS)
    doomed = start_workers("sim:1:40")
    doomed.wait_ready(1)
    send(redis_server, folder)
    pid, _ = _busy_worker(redis_server)
    doomed.launcher.kill()
    doomed.launcher.wait()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid), PATIENCE_S)
    survivors = start_workers("sim:2:10")
    wait_for(lambda: "action=chunk_taken_over" in survivors.text(), LEASE_S + PATIENCE_S, survivors.text)
    _assert_whole(folder, survivors, timeout_s=PATIENCE_S)


def test_a_run_survives_that_redis_is_wiped(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """FLUSHALL in the middle loses messages, leases and the list of runs; the workers put all of it back."""
    folder = plan_run(str(tmp_path / "run"), REQUESTS)
    workers = start_workers("sim:2:10")
    workers.wait_ready(2)
    send(redis_server, folder)
    wait_for(lambda: len(folder.committed_chunks()) >= 3, PATIENCE_S)
    with redis_server.client() as client:
        client.flushall()
    _assert_whole(folder, workers, timeout_s=PATIENCE_S)
    assert workers.text().count(" is ready, pid ") == 2


def test_a_run_survives_that_redis_is_down_for_a_while(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """Work in hand is finished and committed without Redis, and the rest goes on when it is back, empty."""
    folder = plan_run(str(tmp_path / "run"), REQUESTS)
    workers = start_workers("sim:2:10")
    workers.wait_ready(2)
    send(redis_server, folder)
    wait_for(lambda: len(folder.committed_chunks()) >= 3, PATIENCE_S)
    redis_server.stop()
    before = len(folder.committed_chunks())
    wait_for(lambda: len(folder.committed_chunks()) > before, PATIENCE_S, workers.text)
    time.sleep(2)
    redis_server.start()
    _assert_whole(folder, workers, timeout_s=PATIENCE_S)
    assert workers.text().count(" is ready, pid ") == 2


def test_a_signal_drains_what_is_in_hand_and_leaves_the_rest(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """On SIGTERM what is in hand is committed, no more is taken, the command ends with 0; the next worker goes on."""
    folder = plan_run(str(tmp_path / "run"), REQUESTS)
    workers = start_workers("sim:1:10")
    workers.wait_ready(1)
    send(redis_server, folder)
    _, in_hand = _busy_worker(redis_server)
    assert workers.stop() == 0
    assert in_hand <= folder.committed_chunks()
    assert len(folder.committed_chunks()) < folder.read_plan().chunk_count
    assert reports(redis_server) == []
    with redis_server.client() as client:
        assert list(client.scan_iter(LEASES_PATTERN)) == []  # the next worker need not wait for any to run out
    others = start_workers("sim:2:2")
    _assert_whole(folder, others, timeout_s=PATIENCE_S)


@pytest.mark.parametrize(
    ("prompt", "code", "message"),
    [
        ("sim:kill", "worker_lost", r"the worker died 5 times with this image on its device, at last alone there"),
        ("sim:segv", "worker_lost", r"the worker died 5 times with this image on its device, at last alone there"),
        ("sim:hang", "deadline_exceeded", r"the device stood still for 2 s with this image alone on it"),
    ],
)
def test_an_image_that_ends_its_worker_is_a_failed_row(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers, prompt: str, code: str, message: str
) -> None:
    """A death with its chunk, one in a group, four alone; then the rest of the chunk is made."""
    requests = [Request(prompt=prompt if n == 3 else f"a cloud {n}", num_inference_steps=2) for n in range(6)]
    folder = plan_run(str(tmp_path / "run"), requests)
    send(redis_server, folder)
    workers = start_workers("sim:1", "--stall-timeout", "2")
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S, workers.text)
    rows = list(folder.records())
    assert [row.status for row in rows] == [SUCCESS] * 3 + [FAILED] + [SUCCESS] * 2
    assert (rows[3].error_code, rows[3].error_message) == (code, message)
    deaths = workers.text().count("action=worker_died")
    assert deaths == (3 if code == "deadline_exceeded" else 1 + LIMIT)
    assert rows[3].attempts == deaths + 1


def test_an_image_that_kills_its_worker_takes_no_image_of_another_chunk_with_it(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """A process has two chunks in hand; while the killer is being found its own chunk must be alone there."""
    killing = [Request(prompt="sim:kill" if n == 0 else f"a sky {n}", num_inference_steps=12) for n in range(4)]
    healthy = [Request(prompt=f"a hill {n}", num_inference_steps=30) for n in range(4)]
    folder = plan_run(str(tmp_path / "run"), [*killing, *healthy], images_per_chunk=4)
    workers = start_workers("sim:1:50")
    workers.wait_ready(1)
    send(redis_server, folder)
    wait_for(lambda: folder.read_manifest() is not None, 2 * PATIENCE_S, workers.text)
    assert [row.prompt for row in folder.records() if row.status == FAILED] == ["sim:kill"]


def test_a_store_that_fails_for_a_while_costs_time_and_no_image(
    redis_server: RedisServer, tmp_path: Path, start_workers: StartWorkers
) -> None:
    """What is made waits, and is written when the store takes it."""
    folder = plan_run(str(tmp_path / "run"), [Request(prompt="a rock", num_images_per_prompt=8)])
    blocker = tmp_path / "run" / "shards"
    blocker.write_text("a file where the store wants a folder")
    send(redis_server, folder)
    workers = start_workers("sim:1")
    wait_for(lambda: "action=store_away" in workers.text(), PATIENCE_S, workers.text)
    assert folder.committed_chunks() == set()
    blocker.unlink()
    _assert_whole(folder, workers, timeout_s=PATIENCE_S)
    assert {record.attempts for record in folder.records()} == {1}
    assert "action=chunk_given_back" not in workers.text()


def _assert_whole(folder: RunFolder, workers: Workers, *, timeout_s: float) -> None:
    """Wait for the manifest, then check that every image of the plan is there once."""
    wait_for(lambda: folder.read_manifest() is not None, timeout_s, workers.text)
    plan, manifest = folder.read_plan(), folder.read_manifest()
    assert manifest is not None and (manifest.images, manifest.failed) == (plan.image_count, 0)
    keys = [record.key for record in folder.records()]
    assert len(keys) == len(set(keys)) == plan.image_count
    assert len(shard_members(folder)) == 3 * plan.image_count


def _busy_worker(server: RedisServer) -> tuple[int, set[int]]:
    """Wait until a worker holds two chunks; return its process id and the chunks, as its leases tell."""
    held: dict[str, set[int]] = {}

    def look() -> bool:
        held.clear()
        with server.client() as client:
            for key in client.scan_iter(LEASES_PATTERN):
                held.setdefault(str(client.get(key)), set()).add(int(str(key).rpartition(":")[2]))
        return any(len(chunks) == 2 for chunks in held.values())

    wait_for(look, PATIENCE_S)
    holder, chunks = max(held.items(), key=lambda item: len(item[1]))
    return int(holder.rpartition("/")[2]), chunks


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
