"""Damaged inputs: requests, messages, and files of runs, finished ones and such as workers are about to make."""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from producer.main import exit_code_of
from tools.chaos.cluster import Cluster, run_id
from tools.chaos.damage import damaged, hostile_json
from tools.chaos.figures import Figure, exactly, noted
from tools.chaos.work import Options, write_work
from tools.servers import wait_for

DEVICES = "sim:1:1"
UNFORESEEN = re.compile(r"Traceback|fault of the program|nobody foresaw|Unrecoverable")
PLAN_EVERY = 10
"""Of so many inputs one is a plan, which costs a worker more than the others together."""
PLANS_KEPT = 20
_NAMED = re.compile(r"inputs/plans/run-\d+/images/escape~[0-9a-f]{16}_\d+\.png(#\d+)?")
"""The name that an image of such an id has where it belongs, and while it is being written there."""
_QUEUES = ("ddim-fleet.high", "ddim-fleet", "ddim-fleet.low")
_COMMANDS = (["status"], ["verify"], ["failed"], ["resume"], ["report"])
_REQUEST = {"custom_id": "a", "prompt": "a red leaf", "seed": 7, "num_inference_steps": 5, "height": 32, "width": 32}
_REQUEST_MORE: dict[str, Any] = {"guidance_scale": 2.0, "eta": 0.0, "num_images_per_prompt": 1, "metadata": {"a": "b"}}


@dataclass(slots=True)
class _Fuzzer:
    """Feeds damaged inputs to the command line, in this process, and counts what should not be."""

    cluster: Cluster
    folder: Path
    rng: random.Random
    found: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    planned: int = 0

    def requests(self) -> None:
        """Submit a file of damaged requests; one that is still right may be queued."""
        lines = [json.dumps({**_REQUEST, "custom_id": f"c{n}"}).encode() for n in range(3)]
        hostile = hostile_json({**_REQUEST, **_REQUEST_MORE}, self.rng)
        data = b"\n".join([*lines, hostile] if self.rng.random() < 0.5 else [damaged(b"\n".join(lines), self.rng)])
        path = self.folder / "inputs" / "prompts.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        out = self.folder / "out" / "run"
        before = self._queued()
        code = self.command("submit", str(path), "--out", str(out), "--broker", self._broker)
        self._given(code)
        if code and (self._queued() != before or (out / "run.json").exists()):
            self._count("refused and queued", data)
        self._look_outside(self.folder / "out", {"run"}, data)
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        self._empty()

    def run_folder(self, made: Path) -> None:
        """Damage a file of a copy of a finished run, then look at it, check it and go on with it."""
        copy = self.folder / "copies" / "run"
        shutil.copytree(made, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        victim = self.rng.choice(files)
        victim.write_bytes(damaged(victim.read_bytes() or b"\n", self.rng))
        if self.rng.random() < 0.3:
            (copy / "manifest.json").unlink(missing_ok=True)
        what = f"{victim.relative_to(copy)}"
        command = self.rng.choice(_COMMANDS)
        before = self._queued()
        broker = ["--broker", self._broker] if command == ["resume"] else []
        code = self.command(*command, str(copy), *broker, what=what)
        self._given(code)
        if code == 1 and self._queued() != before:
            self._count("refused and queued", what)
        self._look_outside(copy.parent, {"run"}, what)
        shutil.rmtree(copy.parent)
        self._empty()

    def command(self, *arguments: str, what: object = "") -> int:
        """Run a command; note one that ends in a way that nobody foresaw."""
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code = exit_code_of(arguments)
            except BaseException as exc:  # the command line promises an exit code whatever happens
                self._count("tracebacks", f"{arguments[0]} {what}: {exc!r}")
                return 2
        if UNFORESEEN.search(err.getvalue() + out.getvalue()) or code not in (0, 1, 2, 3):
            self._count("tracebacks", f"{arguments[0]} {what}: exit {code}: {err.getvalue()[:300]}")
        return code

    def message(self, made: Path) -> None:
        """Put a damaged message into the queue of a living worker."""
        fields = {"version": 1, "run_url": made.as_uri(), "run_id": run_id(made), "chunk": 10**6}
        body = json.loads(hostile_json(fields, self.rng))
        whole = _envelope(body, self.rng)
        data = whole if self.rng.random() < 0.5 else damaged(whole, self.rng)
        with self.cluster.redis.client() as client:
            client.lpush("ddim-fleet", data)

    def plan(self, made: Path) -> None:
        """Have a living worker make a run whose plan or chunks were tampered with."""
        number = self.planned = self.planned + 1
        copy = self.folder / "inputs" / "plans" / f"run-{number}"
        shutil.copytree(made / "chunks", copy / "chunks")
        plan = (made / "run.json").read_text().replace(run_id(made), run := f"{run_id(made)[:8]}-plan-{number}")
        container = self.rng.choice(["webdataset", "imagefolder", "files"])
        (copy / "run.json").write_text(plan.replace('"container": "webdataset"', f'"container": "{container}"'))
        victim = self.rng.choice(sorted(path for path in copy.rglob("*") if path.is_file()))
        victim.write_bytes(_tampered(victim.read_bytes(), self.rng))
        fields = {"version": 1, "run_url": copy.as_uri(), "run_id": run, "chunk": self.rng.randrange(2)}
        with self.cluster.redis.client() as client:
            client.lpush("ddim-fleet", _envelope(fields, self.rng, "ddim_fleet.sample_chunk"))
        shutil.rmtree(copy.with_name(f"run-{number - PLANS_KEPT}"), ignore_errors=True)  # a worker may be writing there

    @property
    def _broker(self) -> str:
        return f"redis://127.0.0.1:{self.cluster.redis.port}/5"  # where no worker listens

    def _queued(self) -> int:
        with self.cluster.redis.client() as client:
            client.select(5)
            return sum(int(client.llen(queue)) for queue in _QUEUES)

    def _empty(self) -> None:
        with self.cluster.redis.client() as client:
            client.select(5)
            client.flushdb()

    def _look_outside(self, folder: Path, allowed: set[str], what: object) -> None:
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
        escaped = [path.relative_to(self.folder) for path in self.folder.rglob("*escape*")]
        if names - allowed or not all(map(_NAMED.fullmatch, map(str, escaped))) or Path("/escape").exists():
            self._count("files outside the run's folder", what)

    def _given(self, code: int) -> None:
        self.found["given"] += 1
        self.found["refused"] += bool(code)

    def _count(self, name: str, example: object) -> None:
        self.found[name] += 1
        self.examples.append(f"{name}: {example!r}"[:400])


def run(options: Options) -> list[Figure]:
    """Give the program as many damaged inputs as ``options.faults``: requests, run folders, messages and plans."""
    rng = options.rng()
    with Cluster(options.folder) as cluster:
        cluster.add_hosts(1, DEVICES)
        made = cluster.make(
            write_work(options.folder / "requests.jsonl", 8, steps=1), options.folder / "made", options.timeout_s
        )
        listed = _files(options.folder)
        fuzzer = _Fuzzer(cluster, options.folder, rng)
        kinds: list[Callable[[], None]] = [
            fuzzer.requests, lambda: fuzzer.run_folder(made), lambda: fuzzer.message(made),
        ]  # fmt: skip
        for number in range(options.faults):
            if number % PLAN_EVERY == PLAN_EVERY - 1:
                fuzzer.plan(made)
            else:
                kinds[number % len(kinds)]()
        deaf = _worker_is_deaf(cluster, options)
        stray = _files(options.folder) - listed
        log = cluster.log_text()
    for example in fuzzer.examples[:20]:
        print(example)
    return [
        noted("damaged files that commands refused", fuzzer.found["refused"], f"of {fuzzer.found['given']}"),
        exactly("tracebacks of commands", fuzzer.found["tracebacks"], 0),
        exactly("tracebacks of the worker", len(UNFORESEEN.findall(log)), 0),
        exactly("times that a worker died", log.count("action=worker_died"), 0),
        exactly("workers that take no more chunks", deaf, 0),
        exactly("inputs refused and queued all the same", fuzzer.found["refused and queued"], 0),
        exactly("files outside the run's folder", fuzzer.found["files outside the run's folder"] + len(stray), 0),
    ]


def _worker_is_deaf(cluster: Cluster, options: Options) -> int:
    """Return 1 unless a run that is whole is still made after all these messages, and the queue is empty."""
    with suppress(TimeoutError):
        work = write_work(options.folder / "inputs" / "requests.jsonl", 8, steps=1)
        cluster.make(work, options.folder / "inputs" / "last", options.timeout_s)
        with cluster.redis.client() as client:
            wait_for(lambda: not any(client.llen(queue) for queue in _QUEUES), 60, "the queue must empty")
        return 0
    return 1


def _files(folder: Path) -> set[Path]:
    """Return what lies in the rig's folder, but for the inputs and the logs."""
    return {path for path in folder.rglob("*") if "inputs" not in path.parts and path.suffix != ".log"}


def _tampered(data: bytes, rng: random.Random) -> bytes:
    """Return a plan or a chunk's lines, damaged anywhere or with a field that somebody changed."""
    if rng.random() < 0.3:
        return damaged(data, rng)
    first, *others = [data] if data.startswith(b"{\n") else data.splitlines(keepends=True)
    fields = json.loads(first)
    if "request" in fields and rng.random() < 0.7:
        changed = {**fields, "request": json.loads(hostile_json({**fields["request"], **_REQUEST_MORE}, rng))}
        return b"".join([json.dumps(changed).encode(), b"\n", *others])
    return b"".join([hostile_json(fields, rng), b"\n", *others])


def _envelope(fields: dict[str, Any], rng: random.Random, task: str | None = None) -> bytes:
    """Return a message as Celery sends it to ``task``, or to any, also to one that there is not."""
    name = task or rng.choice(["ddim_fleet.sample_chunk", "ddim_fleet.finish_run", "ddim_fleet.none"])
    number = str(uuid.UUID(int=rng.getrandbits(128)))
    body = json.dumps([[], fields, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    properties = {
        "correlation_id": number, "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "ddim-fleet"},
        "priority": 0, "body_encoding": "base64", "delivery_tag": number,
    }  # fmt: skip
    return json.dumps(
        {
            "body": base64.b64encode(body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": name, "id": number, "retries": 0, "argsrepr": "", "kwargsrepr": ""},
            "properties": properties,
        }
    ).encode()
