"""`ddim-fleet submit` against a real Redis: all of a run is written and queued, or nothing at all."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from ddim_core.checkpoints import resolve
from ddim_core.contracts.queue import DEFAULT_QUEUE, RUNS_KEY, SAMPLE_CHUNK_TASK, ChunkMessage, RunKeys
from ddim_core.storage.run_folder import RunFolder, part_path
from tests.integration.fleet_command import FleetCommand
from tools.servers import free_port

WEIGHTS = "diffusion_pytorch_model.safetensors"
LINE = '{"prompt": "a red circle"}\n'


@pytest.fixture
def fleet(fleet_with_broker: FleetCommand) -> FleetCommand:
    """Give the command line, in an empty folder, with the test's Redis as its broker."""
    return fleet_with_broker


def queued(board: redis.Redis) -> list[ChunkMessage]:
    messages = [json.loads(item) for item in board.lrange(DEFAULT_QUEUE, 0, -1)]
    assert all(message["headers"]["task"] == SAMPLE_CHUNK_TASK for message in messages)
    bodies = [json.loads(base64.b64decode(message["body"])) for message in messages]
    return sorted((ChunkMessage(**kwargs) for _, kwargs, _ in bodies), key=lambda message: message.chunk)


def test_a_run_is_written_then_queued(fleet: FleetCommand, board: redis.Redis) -> None:
    """Every chunk has a file and a message, and the run is listed for the reconciler."""
    fleet.write("p.jsonl", LINE * 10)
    done = fleet("submit", "p.jsonl", "--out", "out", "--seed", "7", "--num-inference-steps", "12")
    assert (done.returncode, done.stdout) == (0, f"{(fleet.folder / 'out').as_uri()}\n")
    assert re.search(r"^queued 10 images in 3 chunks\nto follow it: ddim-fleet watch file://\S+$", done.stderr, re.M)
    folder = RunFolder(str(fleet.folder / "out"))
    plan = folder.read_plan()
    assert (plan.image_count, plan.chunk_count, plan.seed) == (10, 3, 7)
    assert [(message.run_id, message.chunk) for message in queued(board)] == [(plan.run_id, n) for n in range(3)]
    assert {message.run_url for message in queued(board)} == {folder.url}
    assert board.hgetall(RUNS_KEY) == {plan.run_id: folder.url}
    assert {line.request.num_inference_steps for chunk in range(3) for line in folder.read_chunk(chunk)} == {12}


def test_prompts_come_from_standard_input(
    fleet: FleetCommand, board: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dash reads what is piped in."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a red circle\na blue star\n")))
    done = fleet("submit", "-", "--out", "out")
    assert done.returncode == 0
    assert len(queued(board)) == 1
    assert RunFolder(str(fleet.folder / "out")).read_plan().request_count == 2


def test_every_format_gives_the_same_run(fleet: FleetCommand) -> None:
    """The digest of the requests does not tell where they came from."""
    fleet.write("p.jsonl", '{"prompt": "a", "seed": 3}\n{"prompt": "b"}\n')
    fleet.write("p.csv", "prompt,seed\na,3\nb,\n")
    digests = set()
    for name in ("p.jsonl", "p.csv"):
        assert fleet("submit", name, "--out", f"out-{name}").returncode == 0
        digests.add(RunFolder(str(fleet.folder / f"out-{name}")).read_plan().requests_digest)
    assert len(digests) == 1


def test_empty_standard_input_is_called_by_its_name(fleet: FleetCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash alone would say little."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\n")))
    done = fleet("submit", "-", "--out", "out")
    assert (done.returncode, done.stderr) == (
        1,
        "ddim-fleet: error: stdin must hold at least one request, got none\n",
    )


BAD_FILES = {
    "not-json.jsonl": (
        f"{LINE}a red circle\n",
        r"not-json\.jsonl:2: the line must be a JSON object, got a red circle .*",
    ),
    "array.jsonl": ("[1]\n", r"array\.jsonl:1: an element must be a JSON object or a text, got 1"),
    "nan.jsonl": (
        '{"prompt": "a", "guidance_scale": NaN}\n',
        r"nan\.jsonl:1: guidance_scale must be a finite number, got nan",
    ),
    "zero.jsonl": (
        '{"prompt": "a", "num_inference_steps": 0}\n',
        r"zero\.jsonl:1: num_inference_steps must be at least 1, got 0",
    ),
    "many.jsonl": (
        '{"prompt": "a", "num_inference_steps": 2000}\n',
        r"many\.jsonl:1: num_inference_steps must be a whole number from 1 to 1000, got 2000",
    ),
    "unknown.jsonl": (
        '{"prompt": "a", "promt": "b"}\n',
        r"unknown\.jsonl:1: a field must be one of prompt, .*, got 'promt'; did you mean prompt\?",
    ),
    "size.jsonl": (
        '{"prompt": "a", "height": 65}\n',
        r"size\.jsonl:1: height must be a multiple of \d+ with shapes, got 65",
    ),
    "schedule.jsonl": (
        '{"prompt": "a", "scheduler": {"timestep_spacing": "even"}}\n',
        r"schedule\.jsonl:1: scheduler\.timestep_spacing must be one of leading, .*, got 'even'",
    ),
    "parameter.jsonl": (
        '{"prompt": "a", "scheduler": {"beta_begin": 1}}\n',
        r"parameter\.jsonl:1: scheduler parameters must be among .*, got beta_begin.*",
    ),
    "twice.jsonl": (
        '{"prompt": "a", "custom_id": "x"}\n{"prompt": "b", "custom_id": "x"}\n',
        r"twice\.jsonl:2: custom_id must be unique, got 'x', which line 1 has",
    ),
    "latin.txt": (b"caf\xe9\n", r"latin\.txt:1: the line must be UTF-8 text, got byte 0xe9 at column 4; convert .*"),
    "header.csv": (
        "promt\na\n",
        r"header\.csv:1: a column must be named 'prompt' or 'class_label' or 'num_images_per_prompt', got promt; .*",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_line_leaves_no_trace(fleet: FleetCommand, board: redis.Redis, name: str) -> None:
    """The fault is told with its place; nothing is queued, and nothing written."""
    content, fault = BAD_FILES[name]
    fleet.write(name, content)
    done = fleet("submit", name, "--out", "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(rf"^{fault}$", done.stderr, re.M)
    assert done.stderr.startswith("ddim-fleet: error: ") and "Traceback" not in done.stderr
    assert board.dbsize() == 0
    assert fleet.names() == [name]


BAD_USES = {
    "missing file": (
        ["no.jsonl", "--out", "out"],
        r"the prompts must be a file .*, got 'no\.jsonl': it does not exist",
    ),
    "folder": ([".", "--out", "out"], r"the prompts must be a file .*, got '\.': it is a folder; for all .*"),
    "suffix": (
        ["p.xyz", "--out", "out"],
        r"the name of a prompts file must end in one of \.jsonl, .*, got 'p\.xyz'; .*",
    ),
    "no out": (["p.jsonl"], r"Missing option '--out'\. \(see 'ddim-fleet submit --help'\)"),
    "no prompts": (["--out", "out"], r"Missing argument 'PROMPTS\.\.\.'\. \(see 'ddim-fleet submit --help'\)"),
    "no such option": (["p.jsonl", "--ot", "x"], r"No such option.*--ot.*"),
    "a word for a number": (["p.jsonl", "--out", "out", "--eta", "x"], r"Invalid value for '--eta': .*"),
    "bad default": (["p.jsonl", "--out", "out", "--eta", "2"], r"1 fault in the requests; .*"),
    "bad seed": (["p.jsonl", "--out", "out", "--seed", "-1"], r"the run's seed must be from 0 to .*, got -1"),
    "bad chunk": (["p.jsonl", "--out", "out", "--images-per-chunk", "0"], r"images per chunk must be from 1 .*, got 0"),
    "bad pair": (["p.jsonl", "--out", "out", "--scheduler", "x"], r"--scheduler must be KEY=VALUE, .*, got 'x'"),
    "bad scheme": (["p.jsonl", "--out", "ftp://host/out"], r"a store URL must start with .*, got 'ftp://host/out'"),
    "empty out": (["p.jsonl", "--out", ""], r"a store URL must name a folder or a bucket, got ''"),
    "out is a file": (["p.jsonl", "--out", "p.jsonl"], r"a store must be a folder, but .*p\.jsonl is a file.*"),
    "no such model": (["p.jsonl", "--out", "out", "--model", "sdxl"], r"checkpoint must be a folder .*, got sdxl"),
    "empty file": (["empty.txt", "--out", "out"], r"empty\.txt must hold at least one request, got none"),
    "bad broker": (["p.jsonl", "--out", "out", "--broker", "amqp://u:pw@h"], r"the broker's URL must start with .*"),
}


@pytest.mark.parametrize("case", BAD_USES)
def test_bad_usage_leaves_no_trace(fleet: FleetCommand, board: redis.Redis, case: str) -> None:
    """One line says what to mend, and the exit code is 1 whoever found the fault."""
    arguments, message = BAD_USES[case]
    fleet.write("p.jsonl", LINE)
    fleet.write("p.xyz", "a red circle\n")
    fleet.write("empty.txt", "\n\n")
    before = fleet.names()
    done = fleet("submit", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(rf"ddim-fleet: error: ({message})$", done.stderr, re.M)
    assert "Traceback" not in done.stderr and "pw" not in done.stderr
    assert board.dbsize() == 0
    assert fleet.names() == before


CHECKPOINT_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file missing": (
        lambda folder: (folder / "tokenizer" / "merges.txt").unlink(),
        r"a checkpoint must hold tokenizer/merges\.txt, got none in \S*model",
    ),
    "pickled weights": (
        lambda folder: (folder / "unet" / WEIGHTS).rename(folder / "unet" / "diffusion_pytorch_model.bin"),
        rf"weights must be unet/{WEIGHTS}, got unet/diffusion_pytorch_model\.bin in \S*model; .*",
    ),
}


@pytest.mark.parametrize("fault", CHECKPOINT_FAULTS)
def test_a_checkpoint_that_cannot_be_used_leaves_no_trace(fleet: FleetCommand, board: redis.Redis, fault: str) -> None:
    """It is found where the run is planned, and not by each worker."""
    damage, message = CHECKPOINT_FAULTS[fault]
    damage(shutil.copytree(resolve("shapes"), fleet.folder / "model"))
    fleet.write("p.jsonl", LINE)
    done = fleet("submit", "p.jsonl", "--out", "out", "--model", "model")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"ddim-fleet: error: {message}\n", done.stderr)
    assert board.dbsize() == 0
    assert fleet.names() == ["model", "p.jsonl"]


def test_an_output_that_takes_nothing_leaves_no_trace(fleet: FleetCommand, board: redis.Redis) -> None:
    """Below /proc nobody makes a folder, not even root."""
    fleet.write("p.jsonl", LINE)
    done = fleet("submit", "p.jsonl", "--out", "/proc/ddim-fleet/out")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"ddim-fleet: error: the output must be writable: could not write file:///proc/\S+: .*\n", done.stderr
    )
    assert board.dbsize() == 0
    assert fleet.names() == ["p.jsonl"]


def test_all_faults_are_told_at_once_up_to_a_limit(fleet: FleetCommand) -> None:
    """A person sees what kind of mistake it is, and how often it was made."""
    fleet.write("p.jsonl", '{"prompt": ""}\n' * 25)
    done = fleet("submit", "p.jsonl", "--out", "out")
    lines = done.stderr.splitlines()
    assert lines[0] == "ddim-fleet: error: 25 faults in the requests; nothing was written or queued"
    assert lines[1] == "p.jsonl:1: prompt must not be blank"
    assert lines[-1] == "and 5 more"
    assert len(lines) == 22


@pytest.mark.parametrize("password", ["", ":geheim@"])
def test_without_redis_nothing_is_written(fleet: FleetCommand, password: str) -> None:
    """Redis is asked first; its password is never shown."""
    fleet.write("p.jsonl", LINE)
    done = fleet("submit", "p.jsonl", "--out", "out", "--broker", f"redis://{password}127.0.0.1:{free_port()}/0")
    assert done.returncode == 2
    assert re.fullmatch(
        r"ddim-fleet: error: Redis at redis://\S+ must answer, got: .*refused; start it, or .* --broker\n",
        done.stderr,
    )
    assert "geheim" not in done.stderr
    assert fleet.names() == ["p.jsonl"]


def test_a_wrong_password_is_called_that(fleet: FleetCommand, board: redis.Redis, redis_url: str) -> None:
    """Redis itself answers with a lesson in its protocol."""
    fleet.write("p.jsonl", LINE)
    board.config_set("requirepass", "geheim")
    for broker in (redis_url, redis_url.replace("//", "//:falsch@")):
        done = fleet("submit", "p.jsonl", "--out", "out", "--broker", broker)
        assert done.returncode == 2
        assert re.search(
            r"must answer, got: the password is wrong or missing; (as|write) redis://:PASSWORD@HOST", done.stderr
        )
        assert "falsch" not in done.stderr
    assert fleet.names() == ["p.jsonl"]


def test_an_output_that_holds_a_run_is_left_alone(fleet: FleetCommand, board: redis.Redis) -> None:
    """Neither the same run nor another is queued over it."""
    fleet.write("p.jsonl", LINE)
    assert fleet("submit", "p.jsonl", "--out", "out").returncode == 0
    before = (fleet.folder / "out" / "run.json").read_bytes()
    again = fleet("submit", "p.jsonl", "--out", "out")
    assert again.returncode == 1
    assert re.search(r"holds this same one; to go on with it: ddim-fleet resume file://\S+$", again.stderr, re.M)
    other = fleet("submit", "p.jsonl", "--out", "out", "--seed", "1")
    assert other.returncode == 1
    assert re.search(r"without a run, but \S+ holds another one \(1 images, .*\); choose another$", other.stderr, re.M)
    assert (fleet.folder / "out" / "run.json").read_bytes() == before
    assert len(queued(board)) == 1


def test_parts_without_a_plan_are_not_taken_for_ours(fleet: FleetCommand, board: redis.Redis) -> None:
    """They would count as done."""
    fleet.write("p.jsonl", LINE)
    RunFolder(str(fleet.folder / "out")).store.put(part_path(0), b"")
    done = fleet("submit", "p.jsonl", "--out", "out")
    assert done.returncode == 1
    assert re.search(r"holds parts of one that has no run\.json; choose another$", done.stderr, re.M)
    assert board.dbsize() == 0


def test_resume_queues_what_is_missing(fleet: FleetCommand, board: redis.Redis) -> None:
    """Neither what is committed nor what a worker holds, whose images still count; it may be called again."""
    fleet.write("p.jsonl", LINE * 12)
    fleet("submit", "p.jsonl", "--out", "out")
    folder = RunFolder(str(fleet.folder / "out"))
    folder.store.put(part_path(0), b"")
    board.flushall()
    keys = RunKeys(folder.read_plan().run_id)
    board.set(keys.lease(1), "worker")
    board.hset(keys.progress, mapping={"0": "4,0", "1": "3,0", "2": "2,0"})
    done = fleet("resume", "out")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"queued 1 chunk of {folder.url}\n"
    assert [message.chunk for message in queued(board)] == [2]
    assert board.smembers(keys.committed) == {"0"}
    assert board.hgetall(keys.progress) == {"1": "3,0"}


@pytest.mark.parametrize("command", ["status", "watch", "resume", "report"])
def test_a_folder_that_is_no_run_is_named_and_not_made(fleet: FleetCommand, command: str) -> None:
    """A misspelt URL makes no folder."""
    done = fleet(command, "nowhere")
    assert done.returncode == 1
    assert re.match(r"ddim-fleet: error: a run's URL must name a folder with run\.json, .* file://\S+$", done.stderr)
    assert fleet.names() == []


def test_status_works_with_and_without_redis(fleet: FleetCommand, board: redis.Redis) -> None:
    """Without Redis the store says what is done, and the workers are unknown."""
    fleet.write("p.jsonl", LINE * 12)
    fleet("submit", "p.jsonl", "--out", "out")
    run_id = RunFolder(str(fleet.folder / "out")).read_plan().run_id
    board.hset(RunKeys(run_id).progress, "1", "2,1")
    with_redis = json.loads(fleet("status", "out", "--json").stdout)
    assert (with_redis["state"], with_redis["images_made"], with_redis["images_failed"]) == ("running", 2, 1)
    assert (with_redis["images_total"], with_redis["chunks_total"], with_redis["workers"]) == (12, 3, 0)
    without = fleet("status", "out", "--broker", f"redis://127.0.0.1:{free_port()}/0")
    assert without.returncode == 0
    assert re.search(r"^images +0 of 12$", without.stdout, re.M)
    assert re.search(r"^workers +unknown \(Redis does not answer\)$", without.stdout, re.M)
