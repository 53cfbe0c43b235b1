"""What the client adds to the parts it is made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ddim_core.contracts.plan import RunPlan
from ddim_core.errors import BrokerError, StorageError
from ddim_core.storage.run_folder import RunFolder
from producer import client
from producer.broker import Broker
from producer.client import Client, Run
from producer.runs import progress
from tests.unit.producer.written_runs import finish, written_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Give a run, which is looked at without a pause."""
    monkeypatch.setattr(client, "_POLL_S", 0.0)
    monkeypatch.setattr(Broker, "workers", lambda self: [])
    return written_run(tmp_path / "run")


def test_waiting_outlasts_a_store_that_fails_for_a_moment(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers go on meanwhile; but not for ever, and not beyond what the caller has time for."""
    run, read_totals = Run(folder, Broker()), folder.read_totals
    finish(folder, made=10)
    failures = iter(range(2))

    def fail_twice(plan: RunPlan | None = None) -> object:
        if next(failures, None) is not None:
            raise StorageError("the store is away")
        return read_totals(plan)

    monkeypatch.setattr(folder, "read_totals", fail_twice)
    assert run.wait().images_made == 10
    assert next(failures, None) is None
    failures = iter(range(10**9))
    with pytest.raises(
        TimeoutError, match=rf"^the run .* 0\.05 s, got no answer from the store at {re.escape(run.url)}$"
    ):
        run.wait(timeout_s=0.05)
    monkeypatch.setattr(progress, "STORE_PATIENCE_S", 0.05)
    with pytest.raises(StorageError, match=r"^the store is away$"):
        run.wait()


def test_the_broker_is_that_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script and a terminal on one host mean the same fleet; what the caller names comes first."""
    monkeypatch.setenv("DDIM_FLEET_BROKER", "redis://127.0.0.1:1/3")
    for each, url in ((Client(), "127.0.0.1:1/3"), (Client("redis://127.0.0.1:1/4"), "127.0.0.1:1/4")):
        with pytest.raises(BrokerError, match=rf"^Redis at redis://{url} must answer"):
            each.submit([{"prompt": "a"}], out=str(tmp_path / "out"))


def test_requests_from_python_may_stand_for_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As lines of a file may; lists of the run serve all of them."""
    monkeypatch.setattr(Broker, "ping", lambda broker: None)
    monkeypatch.setattr(Broker, "workers", lambda broker: [])
    monkeypatch.setattr("producer.runs.submission.enqueue", lambda folder, plan, broker: plan.chunk_count)
    requests = [{"prompt": "a {colour} star", "sweep": {"seed": [1, 2]}}, {"prompt": "a {{circle}}"}]
    run = Client().submit(requests, out=str(tmp_path / "out"), lists={"colour": ["red", "blue"]}, results=True)
    folder = RunFolder(run.url)
    prompts = [line.request.prompt for chunk in range(run.plan.chunk_count) for line in folder.read_chunk(chunk)]
    assert prompts == ["a red star"] * 2 + ["a blue star"] * 2 + ["a {circle}"]
    assert run.plan.results
