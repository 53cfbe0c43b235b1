"""Runs that an earlier version began keep the names of their requests, and so their seeds and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ddim_core.errors import RequestFaults
from ddim_core.storage.run_folder import RunFolder
from producer.broker import Broker
from producer.inputs import read_rows
from producer.requests.model import read_model
from producer.runs.extension import More, extend
from producer.runs.options import RunOptions
from producer.runs.submission import prepared

OLDER = Path(__file__).parents[3] / "data" / "run_0.1.0"
"""What ``submit prompts.jsonl --format files`` of 0.1.0 wrote: a sweep over lists, and one over guidance."""


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Give a copy of the run, for the checkpoint as it is now, and no broker."""
    monkeypatch.setattr(Broker, "ping", lambda broker: None)
    monkeypatch.setattr(Broker, "workers", lambda broker: [])
    monkeypatch.setattr("producer.runs.extension.enqueue", lambda folder, plan, broker: plan.chunk_count)
    shutil.copytree(OLDER, tmp_path / "run")
    for name in ("run.json", "claim.json"):
        plan = json.loads((OLDER / name).read_text())
        plan["model"]["digest"] = read_model("shapes").digest
        (tmp_path / "run" / name).write_text(json.dumps(plan))
    return RunFolder(str(tmp_path / "run"))


def names(folder: RunFolder) -> list[str | None]:
    chunks = range(folder.read_plan().chunk_count)
    return [line.request.custom_id for chunk in chunks for line in folder.read_chunk(chunk)]


def lines() -> More:
    path = str(OLDER / "prompts.jsonl")
    return More(read_rows(path), path)


@pytest.mark.parametrize("missing", [(), ("run.json",)])
def test_the_same_command_goes_on_with_a_run_of_an_earlier_version(older: RunFolder, missing: tuple[str, ...]) -> None:
    """Its requests have the names that they had, so it is the same run; also where no plan was written yet.

    With the settings of that version: what a checkpoint recommends is new.
    """
    for name in missing:
        older.store.delete(name)
    more = lines()
    options = RunOptions(out=older.url, container="files", settings="diffusers")
    with prepared(more.rows, more.source, options) as run:
        if missing:
            assert run.written_plan() is None
            run.write()
        assert run.written_plan() == older.read_plan()
    assert older.read_plan().name_separator == "/"
    assert names(older) == ["star/0", "star/1", "star/2", "star/3", "moon/0", "moon/1"]


def test_an_extension_of_it_makes_nothing_twice_under_another_name(older: RunFolder) -> None:
    """The same lines are refused as they were; new ones are named as the run's own."""
    with pytest.raises(RequestFaults, match=r"custom_id must be unique, got 'star/0', which the run has already"):
        extend(older, lines(), Broker("redis://127.0.0.1:1/0"))
    rows = read_rows(str(OLDER / "prompts.jsonl"))
    sun = [row for row in rows if not hasattr(row, "rule")][:1]
    sun[0].fields["custom_id"] = "sun"  # type: ignore[union-attr]
    extend(older, More(sun, "more"), Broker("redis://127.0.0.1:1/0"))
    assert names(older)[6:] == ["sun/0", "sun/1", "sun/2", "sun/3"]


def test_new_runs_name_requests_as_file_names_may_be(tmp_path: Path) -> None:
    """So that files named after them need no hash; and the plan says so, for extensions."""
    more = lines()
    with prepared(more.rows, more.source, RunOptions(out=str(tmp_path / "new"), container="files")) as run:
        plan = run.write()
    assert names(run.folder)[3:5] == ["star-3", "moon-0"]
    assert run.folder.read_plan().name_separator == plan.name_separator == "-"
