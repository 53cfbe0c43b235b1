"""What benchmarks ask for: both sides of a comparison must get the same work."""

from __future__ import annotations

from collections import Counter

from benchmarks.timing import median_seconds
from benchmarks.work import MIXED_STEPS, alike, mixed, prompts
from ddim_core.checkpoints import describe, resolve

INFO = describe(resolve("shapes"))


def test_consecutive_batches_share_no_prompt() -> None:
    """The service remembers encoded prompts; a pipeline does not."""
    assert len(set(prompts(8)) | set(prompts(8, first=8)) | set(prompts(8, first=16))) == 24


def test_mixed_work_is_the_same_for_the_same_seed_and_holds_every_number_of_steps() -> None:
    """Both sides, and every run, get the same specs."""
    specs = mixed(INFO, 100, seed=1)
    assert specs == mixed(INFO, 100, seed=1) != mixed(INFO, 100, seed=2)
    assert set(Counter(spec.num_inference_steps for spec in specs)) == set(MIXED_STEPS)
    assert {spec.eta for spec in specs} == {0.0, 1.0}


def test_work_that_is_alike_differs_in_prompt_and_seed_alone() -> None:
    """Otherwise a batch would have a longest member."""
    first, second = alike(INFO, 2, steps=20, first=5)
    assert (first.seed, second.seed) == (5, 6)
    assert first.prompt != second.prompt
    assert first.num_inference_steps == second.num_inference_steps == 20


def test_the_sides_take_turns_after_one_run_that_is_not_measured() -> None:
    """A noisy neighbour then meets all of them, and no side pays for compiling."""
    turns: list[str] = []
    median_seconds(lambda: turns.append("ours"), lambda: turns.append("theirs"), repeats=2)
    assert turns == ["ours", "theirs"] * 3
