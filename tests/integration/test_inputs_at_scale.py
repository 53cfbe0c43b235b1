"""Requests from buckets, compressed, in the OpenAI Batch form: from the command line to what the run leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from ddim_core.contracts.queue import DEFAULT_QUEUE
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import PLAN, RunFolder
from tests.integration.fleet_command import FleetCommand, started
from tests.integration.worker_host import Workers, wait_for

BATCH_URL = "/v1/images/generations"


@pytest.fixture
def fleet(fleet_with_broker: FleetCommand) -> FleetCommand:
    """Give the command line, in an empty folder, with the test's Redis as its broker."""
    return fleet_with_broker


def compressed(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def prompts_of(folder: RunFolder) -> list[str]:
    plan = folder.read_plan()
    return [line.request.prompt for chunk in range(plan.chunk_count) for line in folder.read_chunk(chunk)]


def test_requests_come_from_a_bucket(fleet: FleetCommand, s3_url: str, tmp_path: Path) -> None:
    """By name or pattern, compressed, of every format, beside a local file; the largest is streamed in pieces."""
    store = ObjectStore(f"{s3_url}/in")
    many = [f"prompt {number:06d}" for number in range(50_000)]
    store.put("1.jsonl.zst", compressed(b"".join(json.dumps({"prompt": prompt}).encode() + b"\n" for prompt in many)))
    store.put("deep/2.csv", b"prompt\na circle\n")
    pq.write_table(pa.table({"prompt": ["a star"]}), tmp_path / "3.parquet")
    store.put("3.parquet", (tmp_path / "3.parquet").read_bytes())
    fleet.write("4.txt", "a square\n")
    done = fleet("submit", f"{s3_url}/in/*.jsonl.zst", f"{s3_url}/in/**/2.csv", f"{s3_url}/in/3.parquet", "4.txt",
                 "--out", "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert prompts_of(RunFolder(str(fleet.folder / "out"))) == [*many, "a circle", "a star", "a square"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("in/no.jsonl", "the prompts must be a file that can be read, got '{url}/in/no.jsonl': it does not exist"),
        ("in/*.csv", "a pattern must match at least one object, got '{url}/in/*.csv'"),
        ("in/cut.jsonl.zst", "1 fault in the requests; nothing was written or queued\n{url}/in/cut.jsonl.zst:1: the "),
    ],
)
def test_what_a_bucket_cannot_give_leaves_no_trace(
    fleet: FleetCommand, board: redis.Redis, s3_url: str, name: str, message: str
) -> None:
    """Misspelt names and files that were cut short are told as they are for local files."""
    ObjectStore(f"{s3_url}/in").put("cut.jsonl.zst", compressed(b'{"prompt": "a"}\n')[:-3])
    done = fleet("submit", f"{s3_url}/{name}", "--out", "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"ddim-fleet: error: {message.format(url=s3_url)}")
    assert board.dbsize() == 0 and fleet.names() == []


def test_a_plan_writes_and_queues_nothing(fleet: FleetCommand, board: redis.Redis) -> None:
    """It says what the run comes to, for people and for programs, and finds all faults."""
    fleet.write("p.jsonl", '{"prompt": "a", "sweep": {"seed": {"range": [0, 100]}}, "num_inference_steps": 20}\n')
    done = fleet("submit", "p.jsonl", "--plan", "--json", "--guidance-scale", "1")
    assert (done.returncode, done.stderr) == (0, "nothing was written or queued\n")
    estimate = json.loads(done.stdout)
    assert (estimate["requests"], estimate["images"], estimate["chunks"]) == (100, 100, 15)
    assert (estimate["steps"], estimate["denoiser_evaluations"]) == (2000, 2000)
    text = fleet("run", "p.jsonl", "--out", "out", "--plan").stdout
    assert "images        100 in 15 chunks of up to 7\n" in text
    fleet.write("lists.json", '{"colour": ["red", "blue", "green"]}')
    fleet.write("t.txt", "a {colour} star\na {{circle}}\n")
    assert json.loads(fleet("run", "t.txt", "--lists", "lists.json", "--plan", "--json").stdout)["requests"] == 4
    fleet.write("bad.jsonl", '{"prompt": ""}\n')
    assert fleet("run", "bad.jsonl", "--plan").returncode == 1
    assert fleet("submit", "p.jsonl", "--out", "out", "--json").stderr.startswith(
        "ddim-fleet: error: --json and --speed-from must stand with --plan."
    )
    assert board.dbsize() == 0 and fleet.names() == ["bad.jsonl", "lists.json", "p.jsonl", "t.txt"]


def test_a_batch_file_ends_as_result_and_error_lines(
    fleet: FleetCommand, start_workers: Callable[..., Workers]
) -> None:
    """A line for each request, images found where the line says, both files in the manifest with their hashes."""
    bodies = [{"prompt": "a red circle", "n": 3, "size": "64x64", "model": "shapes"}, {"prompt": "sim:fail"}]
    lines = [{"custom_id": f"r{n}", "method": "POST", "url": BATCH_URL, "body": body} for n, body in enumerate(bodies)]
    fleet.write("batch.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert fleet("submit", "batch.jsonl", "--out", "out", "--results", "--format", "imagefolder").returncode == 0
    folder = RunFolder(str(fleet.folder / "out"))
    workers = start_workers("sim:1")
    wait_for(lambda: folder.read_manifest() is not None, 90, workers.text)
    (result,) = [json.loads(line) for line in folder.store.get("results.jsonl").splitlines()]
    assert (result["custom_id"], result["error"], result["response"]["status_code"]) == ("r0", None, 200)
    images = result["response"]["body"]["data"]
    assert [hashlib.sha256(folder.store.get(image["path"])).hexdigest() for image in images] == [
        image["sha256"] for image in images
    ]
    (error,) = [json.loads(line) for line in folder.store.get("errors.jsonl").splitlines()]
    assert (error["custom_id"], error["response"], error["error"]["code"]) == ("r1", None, "sample_failed")
    assert {"results.jsonl", "errors.jsonl"} <= {entry.path for entry in folder.read_manifest().files}  # type: ignore[union-attr]
    assert fleet("verify", "out").returncode == 0


def test_a_submit_that_dies_leaves_nothing_that_is_taken_for_whole(fleet: FleetCommand, board: redis.Redis) -> None:
    """Killed while it writes chunks: no plan, no message; the same command then goes on under the same name."""
    fleet.write("p.txt", "a red circle\n" * 1000)
    arguments = ("submit", "p.txt", "--out", "out", "--images-per-chunk", "1")
    command = started(fleet.folder, *arguments)
    chunks = fleet.folder / "out" / "chunks"
    wait_for(lambda: command.poll() is not None or (chunks.is_dir() and any(chunks.iterdir())), 60)
    os.kill(command.pid, signal.SIGKILL)
    command.communicate()
    assert command.returncode == -signal.SIGKILL
    assert not (fleet.folder / "out" / PLAN).exists()
    assert board.dbsize() == 0
    claimed = RunFolder(str(fleet.folder / "out")).read_claim()
    assert claimed is not None
    assert fleet(*arguments).returncode == 0
    folder = RunFolder(str(fleet.folder / "out"))
    assert folder.read_plan().run_id == claimed.run_id
    assert len(prompts_of(folder)) == board.llen(DEFAULT_QUEUE) == 1000


def test_many_messages_go_to_redis_at_once(fleet: FleetCommand, board: redis.Redis) -> None:
    """Each by itself would wait for an answer, which takes a run of 100,000 chunks minutes on a network."""
    fleet.write("p.txt", "a red circle\n" * 1200)
    assert fleet("submit", "p.txt", "--out", "out", "--images-per-chunk", "1").returncode == 0
    assert board.llen(DEFAULT_QUEUE) == 1200
    assert board.info("stats")["total_reads_processed"] < 300


def test_planning_keeps_little_in_memory(fleet: FleetCommand) -> None:
    """Ten times the requests cost their ids, some 150 bytes each, and nothing more."""
    peaks = []
    for count in (2_000, 100_000):
        name = f"{count}.txt"
        fleet.write(name, "a large red circle on a white background\n" * count)
        peaks.append(_peak_kb(fleet.folder, name))
    assert peaks[1] - peaks[0] < 98_000 * 250 / 1000


def _peak_kb(folder: Path, name: str) -> int:
    """Return the peak memory of a dry run, in kB."""
    pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "producer", "submit", name, "--plan"], os.environ)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, folder
    return usage.ru_maxrss
