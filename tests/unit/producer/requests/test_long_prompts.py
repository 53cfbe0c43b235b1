"""A prompt that its text encoder is too short for is never cut without a word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.checkpoints.prompts import PromptReader
from ddim_core.checkpoints.recommended import FIELDS
from ddim_core.contracts.plan import RunPlan
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import BatchShape, Size
from ddim_core.errors import InputError, RequestFaults
from producer.requests.model import Model, read_model
from producer.requests.rows import Row
from producer.requests.validate import RequestChecker, checked
from producer.runs.estimate import estimate_text, estimated
from producer.runs.options import RunOptions
from producer.runs.submission import PreparedRun, prepared, workload_of
from tests.unit.checkpoints.vocabularies import shapes, texts

CAPTION = "a large red circle on a white background"
LONG = f"{CAPTION}, highly detailed, best quality, sharp focus"
WAYS_ON = (
    "--long-prompts cut has the rest left out, and each row says so; "
    "--long-prompts chunk has all of it encoded, in windows of 24 tokens"
)
TOKENS = shapes().count(LONG)
MODEL = read_model("shapes")


def rows(*given: dict[str, Any] | str) -> list[Row]:
    fields = [{"prompt": each} if isinstance(each, str) else each for each in given]
    return [Row("p.jsonl", line, each) for line, each in enumerate(fields, start=1)]


def requests(*given: dict[str, Any] | str, model: Model = MODEL, **defaults: Any) -> list[Request]:
    checker = RequestChecker(model, {"long_prompts": "refuse", **defaults})
    return list(checked(rows(*given), checker, "p.jsonl"))


def faults(*given: dict[str, Any] | str, model: Model = MODEL, **defaults: Any) -> list[str]:
    with pytest.raises(RequestFaults) as caught:
        requests(*given, model=model, **defaults)
    assert caught.value.total == len(caught.value.faults)
    return [str(fault) for fault in caught.value.faults]


@contextmanager
def run_of(folder: Path, *given: dict[str, Any] | str, **defaults: Any) -> Iterator[PreparedRun]:
    options = RunOptions(out=str(folder / "run"), defaults=defaults)
    with prepared(rows(*given), "p.jsonl", options) as run:
        yield run


def test_a_prompt_that_is_too_long_is_refused_with_both_ways_on() -> None:
    """Field, rule, tokens, limit and what to do."""
    assert faults(CAPTION, LONG) == [
        f"p.jsonl:2: prompt must have at most 24 tokens with shapes, got {TOKENS}; {WAYS_ON}"
    ]


def test_all_prompts_of_a_run_that_are_too_long_are_one_fault() -> None:
    """A hundred thousand of them tell a person no more: how many, the longest, and where the first stands."""
    longer = f"{LONG}, trending"
    many = [LONG, *[CAPTION] * 3, {"prompt": CAPTION, "negative_prompt": longer}, *[LONG] * 100]
    assert faults(*many) == [
        f"p.jsonl:1: prompt must have at most 24 tokens with shapes, got {TOKENS}; 102 requests have such a prompt, "
        f"the longest of {shapes().count(longer)} tokens at p.jsonl:5; {WAYS_ON}"
    ]


def test_other_faults_are_reported_beside_it() -> None:
    """Of the same line, of others, and where there are more of them than are shown."""
    wrong = {"prompt": LONG, "eta": 3}
    first, last = faults(wrong, LONG)
    assert first == "p.jsonl:1: eta must be at most 1.0, got 3"
    assert last.startswith("p.jsonl:1: prompt must have at most 24 tokens") and "2 requests have such" in last
    with pytest.raises(RequestFaults) as caught:
        requests(*[{"prompt": "a", "eta": 3}] * 30, LONG)
    assert (caught.value.total, len(caught.value.faults)) == (31, 21)
    assert "prompt must have at most 24 tokens" in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": CAPTION, "negative_prompt": LONG},
        {"prompt": "a {kind} circle", "lists": {"kind": ["red", LONG]}},
        {"prompt": LONG, "sweep": {"seed": [1, 2]}},
        {"prompt": CAPTION, "sweep": {"negative_prompt": ["blur", LONG]}},
        {"prompt": "字" * 23},
        {"prompt": "\U0001f469\u200d\U0001f680" * 6},
        {"prompt": "x" * 10_000},
    ],
)
def test_whatever_makes_a_prompt_long_is_found(fields: dict[str, Any]) -> None:
    """Negative prompts, lists, sweeps, and scripts of which a character is several tokens."""
    (fault,) = faults(fields)
    assert "must have at most 24 tokens with shapes" in fault and WAYS_ON in fault


def test_a_longer_prompt_than_a_request_may_have_is_refused_for_that_alone() -> None:
    """It is not read: a file of another kind may have a line of a gigabyte."""
    (fault,) = faults("x" * 10_001)
    assert "must have at most 10000 characters" in fault


@pytest.mark.parametrize("mode", ["cut", "chunk"])
def test_a_request_says_what_becomes_of_its_prompt_only_if_that_is_long(mode: str) -> None:
    """So that workers of an earlier version can read the chunks of a run whose prompts are short."""
    short, long = requests(CAPTION, LONG, long_prompts=mode)
    assert (short.long_prompts, long.long_prompts) == (None, mode)
    own = {"long_prompts": mode, "max_windows": 9}
    short, long = requests({"prompt": CAPTION, **own}, {"prompt": LONG, **own})
    assert (short.long_prompts, long.long_prompts) == (None, mode)
    assert short.max_windows is long.max_windows is None


def test_a_line_may_say_otherwise_than_the_run() -> None:
    """In both directions, and by a sweep that compares what becomes of it."""
    (one,) = requests({"prompt": LONG, "long_prompts": "cut"})
    assert one.long_prompts == "cut"
    assert len(faults({"prompt": LONG, "long_prompts": "refuse"}, long_prompts="cut")) == 1
    both = requests({"prompt": LONG, "sweep": {"long_prompts": ["cut", "chunk"]}})
    assert [each.long_prompts for each in both] == ["cut", "chunk"]


def test_more_windows_than_allowed_are_refused_and_allowed_by_name() -> None:
    """Each window makes every step dearer: many of them are a mistake more often than a wish."""
    words = "star " * 100
    windows = -(-100 // 22)
    assert faults(words, CAPTION, long_prompts="chunk") == [
        f"p.jsonl:1: prompt must fill at most 4 windows of 24 tokens with shapes, got {windows}; "
        f"--max-windows {windows} allows all of them; --long-prompts cut has the rest left out, and each row says so"
    ]
    assert len(requests(words, long_prompts="chunk", max_windows=windows)) == 1
    assert len(requests({"prompt": words, "max_windows": windows}, long_prompts="chunk")) == 1
    assert len(faults({"prompt": words, "max_windows": 2}, long_prompts="chunk", max_windows=9)) == 1
    row = Row("p.csv", 2, {"prompt": words, "long_prompts": "chunk", "max_windows": str(windows)}, typed=False)
    assert RequestChecker(MODEL, {}).check(row).long_prompts == "chunk"


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"long_prompts": "truncate"}, "long_prompts must be 'refuse', 'cut' or 'chunk', got 'truncate'"),
        ({"max_windows": 0}, "max_windows must be at least 1, got 0"),
    ],
)
def test_what_cannot_become_of_a_prompt_is_named(fields: dict[str, Any], fault: str) -> None:
    """In a line, and once for the run."""
    assert faults({"prompt": CAPTION, **fields}) == [f"p.jsonl:1: {fault}"]
    with pytest.raises(RequestFaults, match=f"^the run's defaults: {fault}$"):
        RequestChecker(MODEL, fields)


def test_a_checkpoint_without_a_text_encoder_reads_no_prompts() -> None:
    """The caption of a class may be as long as its names are."""
    unread = replace(MODEL, prompts=None)
    assert len(requests(LONG, model=unread)) == 1


def test_the_tightest_text_encoder_names_the_limit() -> None:
    """Stable Diffusion XL has two, and both must have room."""
    two = replace(MODEL, prompts=PromptReader([(shapes(), 77), (shapes(), 24)]))
    (fault,) = faults(LONG, model=two)
    assert f"must have at most 24 tokens with shapes, got {TOKENS}" in fault


def test_a_plan_of_short_prompts_is_as_it_was(tmp_path: Path) -> None:
    """Workers of an earlier version refuse a field that they do not know; ``defaults`` may hold any."""
    with run_of(tmp_path, CAPTION) as run:
        run.write()
    written = json.loads((tmp_path / "run/run.json").read_text())
    assert not {"windowed", "cut_images"} & written.keys()
    assert {name for name in written["defaults"] if name not in FIELDS} == {"long_prompts"}
    assert written["defaults"]["long_prompts"] == "refuse"
    line = json.loads((tmp_path / "run/chunks/00000.jsonl").read_text())
    assert set(line) == {"index", "image_count", "request"}
    assert not {"long_prompts", "max_windows"} & set(line["request"])


def test_a_plan_names_the_windows_and_counts_what_is_cut(tmp_path: Path) -> None:
    """Workers compile the windows before they begin; the shorter prompt is filled up to the longer one's."""
    both = {"prompt": CAPTION, "negative_prompt": LONG, "long_prompts": "chunk", "num_images_per_prompt": 3}
    with run_of(tmp_path, both, CAPTION, {"prompt": LONG, "num_images_per_prompt": 2}, long_prompts="cut") as run:
        plan = run.write()
        lines = [line for chunk in range(plan.chunk_count) for line in run.folder.read_chunk(chunk)]
    size = Size(64, 64)
    assert plan.batch_shapes == (BatchShape(size), BatchShape(size, 2)) and plan.cut_images == 2
    assert [(line.windows, line.request.long_prompts) for line in lines] == [(2, "chunk"), (1, None), (1, "cut")]
    again = RunPlan.model_validate_json((tmp_path / "run/run.json").read_bytes())
    assert again.batch_shapes == plan.batch_shapes and again.cut_images == 2


def test_a_plan_of_windows_alone_has_nothing_else_compiled(tmp_path: Path) -> None:
    """Each graph takes seconds to minutes."""
    with run_of(tmp_path, LONG, long_prompts="chunk") as run:
        assert run.plan.batch_shapes == (BatchShape(Size(64, 64), 2),)


def test_an_estimate_says_what_becomes_of_long_prompts() -> None:
    """Before anything is written, and only where there is something to say."""
    options = RunOptions(out="", defaults={"long_prompts": "chunk"})
    given = (CAPTION, {"prompt": LONG, "num_images_per_prompt": 3}, {"prompt": LONG, "long_prompts": "cut"})
    told = estimated(workload_of(rows(*given), "p", options), options, None, [])
    assert (told.cut_images, told.windowed_images, told.most_windows) == (1, 3, 2)
    text = estimate_text(told)
    assert "long prompts  1 image of prompts that are cut; 3 images of prompts of up to 2 windows of the text" in text
    assert "long prompts" not in estimate_text(estimated(workload_of(rows("a"), "p", options), options, None, []))


def without_nul(seed: int) -> list[str]:
    """Return texts that a request may have."""
    return [text for text in texts(400, seed=seed) if "\0" not in text]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sampled_from(without_nul(9)), st.sampled_from(without_nul(10)), st.integers(1, 6))
def test_every_request_that_passes_is_seen_whole_or_says_that_it_is_not(prompt: str, negative: str, most: int) -> None:
    """Whatever the script, however the run says it."""
    prompt, negative = prompt.replace("\0", ""), negative.replace("\0", "")  # refused for itself
    sizes = [PromptReader([(shapes(), 24)]).size(text) for text in (prompt, negative)]
    longest = max(size.windows for size in sizes)
    for mode in ("refuse", "cut", "chunk"):
        row = {"prompt": prompt, "negative_prompt": negative, "long_prompts": mode, "max_windows": most}
        checker = RequestChecker(MODEL, {})
        with ExitStack() as stack:
            if not prompt.strip():
                stack.enter_context(pytest.raises(InputError, match="must not be blank"))
            elif longest > 1 and (mode == "refuse" or (mode == "chunk" and longest > most)):
                stack.enter_context(pytest.raises(InputError, match="24 tokens with shapes"))
            (request,) = checked(rows(row), checker, "p")
            assert request.long_prompts == (mode if longest > 1 else None)
            assert checker.prompts.windows(request) == (longest if mode == "chunk" else 1)
