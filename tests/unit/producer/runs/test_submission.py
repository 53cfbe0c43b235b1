"""A folder is one run's: whoever comes second writes nothing into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from ddim_core.errors import RunExistsError
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import CLAIM, PLAN, RunFolder
from producer.requests.rows import Row
from producer.runs.options import RunOptions
from producer.runs.submission import PreparedRun, prepared


class Prepare(Protocol):
    """Prepares a run of one prompt, for the same folder each time."""

    def __call__(self, prompt: str, seed: int = 0) -> PreparedRun:
        """Return the run."""
        ...


@pytest.fixture
def prepare(tmp_path: Path) -> Iterator[Prepare]:
    """Give a way to prepare runs that live as long as the test."""
    with ExitStack() as stack:

        def prepare_run(prompt: str, seed: int = 0) -> PreparedRun:
            rows = [Row("requests", 1, {"prompt": prompt})]
            return stack.enter_context(prepared(rows, "requests", RunOptions(out=str(tmp_path / "out"), seed=seed)))

        yield prepare_run


def prompts(folder: RunFolder) -> list[str]:
    return [line.request.prompt for line in folder.read_chunk(0)]


def test_a_second_producer_overwrites_nothing_of_the_first(prepare: Prepare) -> None:
    """Both looked when there was no run yet; neither the chunks nor the plan of the first change."""
    first, second = prepare("a red circle"), prepare("a blue star")
    assert first.written_plan() is None and second.written_plan() is None
    plan = first.write()
    with pytest.raises(RunExistsError, match=rf"is claimed by run {plan.run_id} \(1 images, .*\); choose another"):
        second.write()
    assert first.folder.read_plan() == plan
    assert prompts(first.folder) == ["a red circle"]


def test_a_folder_that_is_being_written_is_refused_with_a_way_out(prepare: Prepare) -> None:
    """Before anything is started for the second run; another seed is another run."""
    dead = prepare("a red circle")
    dead.folder.claim(dead.plan)
    for other in (prepare("a blue star"), prepare("a red circle", seed=1)):
        with pytest.raises(RunExistsError, match=r"wrote run\.json, give that one's command again or delete"):
            other.written_plan()


def test_the_same_command_takes_over_what_a_dead_producer_began(prepare: Prepare) -> None:
    """Under the name that it had: two that do so at once write the same files."""
    dead, again = prepare("a red circle"), prepare("a red circle")
    dead.folder.claim(dead.plan)
    assert again.written_plan() is None
    assert again.write().run_id == dead.plan.run_id
    assert again.folder.read_plan().run_id == dead.plan.run_id
    assert prompts(again.folder) == ["a red circle"]


def test_a_claim_that_was_lost_meanwhile_leaves_no_run(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a store without conditional puts, where two may both be told that they came first."""
    first, second = prepare("a red circle"), prepare("a blue star")
    write_plan = RunFolder.write_plan

    def write_plan_late(folder: RunFolder, plan: object) -> None:
        folder.store.put(CLAIM, second.plan.model_dump_json().encode())
        write_plan(folder, first.plan)

    monkeypatch.setattr(RunFolder, "write_plan", write_plan_late)
    with pytest.raises(
        RunExistsError, match=r"another producer claimed file://\S+ at the same moment; nothing is queued"
    ):
        first.write()
    assert not ObjectStore(first.folder.url).exists(PLAN)
