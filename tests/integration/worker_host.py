"""What tests of workers start and look at: a host with worker processes, and runs for them to make."""

from __future__ import annotations

import hashlib
import io
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from celery import Celery

from ddim_core.contracts.plan import ModelRef, RunPlan, split_into_chunks
from ddim_core.contracts.queue import (
    RUNS_KEY,
    SAMPLE_CHUNK_TASK,
    WORKERS_PATTERN,
    ChunkMessage,
    WorkerReport,
    celery_options,
)
from ddim_core.contracts.request import Request
from ddim_core.storage.run_folder import RunFolder, encode_chunk, shard_path

if TYPE_CHECKING:
    from tools.servers import RedisServer

ROOT = Path(__file__).parents[2]
PATIENCE_S = 180.0
"""For what takes seconds on an idle machine: a wait that ends early costs nothing, and two busy cores are slow."""


class Workers:
    """A launcher with its worker processes, in a process of its own."""

    def __init__(self, broker: str, devices: str, log: Path, *options: str) -> None:
        self.log = log
        with log.open("ab") as sink:
            self.launcher = subprocess.Popen(
                [sys.executable, "-m", "workers", "--devices", devices, "--broker", broker, *options],
                cwd=ROOT,
                stdout=sink,
                stderr=sink,
            )

    def text(self) -> str:
        """Return all that was printed and logged so far."""
        return self.log.read_text()

    def wait_ready(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until as many worker processes have said that they are ready."""
        wait_for(lambda: self.text().count(" is ready, pid ") >= count, timeout_s, self.text)

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """Drain, and return the launcher's exit code."""
        if self.launcher.poll() is None:
            self.launcher.send_signal(signal.SIGTERM)
        try:
            return self.launcher.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.launcher.send_signal(signal.SIGTERM)  # the second kills the workers
            return self.launcher.wait(10)


def wait_for(condition: Callable[[], object], timeout_s: float, explain: Callable[[], str] = str) -> float:
    """Wait until ``condition`` holds; return the seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s} s\n{explain()}"
        time.sleep(0.05)
    return time.monotonic() - began


def plan_run(url: str, requests: Sequence[Request], *, images_per_chunk: int = 8, **fields: object) -> RunFolder:
    """Write a run without queueing it; requests without a size get 32x32."""
    planned = [
        request.model_copy(
            update={
                "custom_id": request.custom_id or f"r{index}",
                "height": request.height or 32,
                "width": request.width or 32,
            }
        )
        for index, request in enumerate(requests)
    ]
    chunks = list(split_into_chunks(list(enumerate(planned)), images_per_chunk))
    data = [encode_chunk(lines) for lines in chunks]
    folder = RunFolder(url)
    plan = RunPlan.model_validate(
        {
            "run_id": hashlib.sha256(url.encode()).hexdigest()[:16],
            "created_at": "2026-01-01T00:00:00Z",
            "model": ModelRef(name="simulated", digest="0" * 64, scheduler={}),
            "request_count": len(planned),
            "image_count": sum(request.num_images_per_prompt for request in planned),
            "chunk_count": len(chunks),
            "images_per_chunk": images_per_chunk,
            "requests_digest": hashlib.sha256(b"".join(data)).hexdigest(),
            **fields,
        }
    )
    for chunk, lines in enumerate(data):
        folder.write_chunk(chunk, lines)
    folder.write_plan(plan)
    return folder


def send(server: RedisServer, folder: RunFolder, chunks: Sequence[int] | None = None) -> None:
    """Queue a run's chunks, as the producer does."""
    plan = folder.read_plan()
    with server.client() as client:
        client.hset(RUNS_KEY, plan.run_id, folder.url)
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_options(server.url))
    for chunk in range(plan.chunk_count) if chunks is None else chunks:
        message = ChunkMessage(run_url=folder.url, run_id=plan.run_id, chunk=chunk)
        app.send_task(SAMPLE_CHUNK_TASK, kwargs=message.model_dump())
    app.close()


def reports(server: RedisServer) -> list[WorkerReport]:
    """Return what the living workers say of themselves."""
    with server.client() as client:
        values = [client.get(key) for key in client.scan_iter(WORKERS_PATTERN)]
    return [WorkerReport.model_validate_json(value) for value in values if value]


def shard_members(folder: RunFolder) -> dict[str, bytes]:
    """Return every member of every shard; a name that comes twice is an error."""
    members: dict[str, bytes] = {}
    for chunk in sorted(folder.committed_chunks()):
        if not folder.store.exists(shard_path(chunk)):
            continue
        with tarfile.open(fileobj=io.BytesIO(folder.store.get(shard_path(chunk)))) as tar:
            for member in tar:
                assert member.name not in members
                content = tar.extractfile(member)
                assert content is not None
                members[member.name] = content.read()
    return members


def shard_hashes(folder: RunFolder) -> dict[str, str]:
    """Return the sha256 of every shard."""
    return {path: hashlib.sha256(folder.store.get(path)).hexdigest() for path, _ in folder.store.list("shards")}
