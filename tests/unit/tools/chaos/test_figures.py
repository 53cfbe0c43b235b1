"""Figures stand beside their targets, and a miss is a miss."""

from __future__ import annotations

import json
from pathlib import Path

from tools.chaos.audit import Fault
from tools.chaos.figures import at_most, exactly, noted, of_faults, table
from tools.chaos.work import write_work


def test_a_figure_past_its_target_is_missed() -> None:
    """At the target it is met; one without a target always is."""
    assert at_most("takeover", 60.0, 60, "s").met and not at_most("takeover", 60.1, 60, "s").met
    assert exactly("lost rows", 0, 0).met and not exactly("lost rows", 1, 0).met
    assert noted("images begun twice", 99, "%").met


def test_faults_are_counted_by_kind_and_none_is_left_out() -> None:
    """A kind that the scenario does not name still misses a target."""
    faults = [Fault("lost row", "a"), Fault("lost row", "b"), Fault("wrong prompt", "c")]
    lost, others = of_faults(faults, "lost row")
    assert (lost.name, lost.value, lost.met) == ("lost rows", "2", False)
    assert (others.value, others.met) == ("1", False)


def test_a_table_says_what_was_missed() -> None:
    """As the rows of a Markdown table, so that it can be kept as it is."""
    rows = table([at_most("takeover", 61.25, 60, "s"), exactly("lost rows", 0, 0)]).splitlines()
    assert rows[2:] == ["| takeover | 61.2 s | at most 60 s | MISSED |", "| lost rows | 0 | 0 | met |"]


def test_poison_is_hidden_at_places_that_follow_from_the_seed(tmp_path: Path) -> None:
    """The same seed gives the same file; every image that is wanted has its line."""
    work = write_work(tmp_path / "a.jsonl", 20, poison=["sim:fail 0", "sim:kill 0"], seed=3)
    assert (
        work.path.read_bytes()
        == write_work(tmp_path / "b.jsonl", 20, poison=["sim:fail 0", "sim:kill 0"], seed=3).path.read_bytes()
    )
    lines = [json.loads(line) for line in work.path.read_text().splitlines()]
    assert {(line["custom_id"], 0): line["prompt"] for line in lines} == work.wanted
    assert len(lines) == 20 and {"sim:fail 0", "sim:kill 0"} <= set(work.wanted.values())
