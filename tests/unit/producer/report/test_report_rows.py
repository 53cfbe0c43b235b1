"""Rows: what is counted over a run of any size, and what a card says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from ddim_core.contracts.record import FAILED, Record
from producer.report import tally as report_tally
from producer.report.beside import as_script, columns
from producer.report.cards import CAPTION_LIMIT_CHARS, card_of
from producer.report.facets import MAX_CHOICES, Facet, parameters
from producer.report.pictures import Picture
from producer.report.tally import RowTally


def facet_of(values: list[str]) -> Facet:
    """Return a facet that has seen these values."""
    facet = Facet("name")
    for value in values:
        facet.add(value)
    return facet


def test_a_parameter_is_a_choice_where_its_values_are_few_and_a_range_where_they_are_many() -> None:
    """And no filter where there is one value only, or many words."""
    few = facet_of(["50", "8", "20", "8"])
    assert (few.kind, few.values(), few.counts["8"], few.summary()) == ("choice", ["8", "20", "50"], 2, "8, 20, 50")
    many = facet_of([str(number / 10) for number in range(10, 500)])
    assert (many.kind, many.summary(), len(many.counts)) == ("range", "1 to 49.9", MAX_CHOICES)
    words = facet_of([f"word {number}" for number in range(100)])
    assert (words.kind, words.summary()) == (None, "more than 40 values")
    assert facet_of(["1", "1"]).kind is None
    assert facet_of([str(number) for number in range(10, 30)]).summary() == "10 to 29 (20 values)"


def test_sizes_are_in_the_order_of_their_numbers() -> None:
    """512 is more than 64, although 5 comes before 6."""
    assert facet_of(["512 x 512", "64 x 64", "512 x 64"]).values() == ["64 x 64", "512 x 64", "512 x 512"]


def test_the_parameters_of_a_row_are_those_it_was_sampled_with(record: Record) -> None:
    """In words, not as schedulers call them, and none that no scheduler has: they become names in the page's data."""
    text = json.dumps(
        {
            "beta_start": 0.00085,
            "clip_sample": False,
            "trained_betas": [0.1] * 9,
            "timestep_pairs": "visited",
            "__proto__": 1,
        }
    )
    found = dict(parameters(replace(record, guidance_scale=7.5, eta=0.0, width=96, height=64, scheduler=text)))
    assert found == {
        "Steps": "20",
        "Guidance": "7.5",
        "Guidance rescale": "0",
        "Eta": "0",
        "Size": "96 x 64",
        "First beta": "0.00085",
        "Clipping": "no",
        "Trained betas": "given",
        "A step leads": "to the next one visited",
    }


def test_failures_are_all_counted_and_their_ids_limited(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are and however their messages differ, memory holds so many reasons and ids."""
    monkeypatch.setattr(report_tally, "IDS_PER_REASON", 2)
    monkeypatch.setattr(report_tally, "REASONS_KEPT", 3)
    tally = RowTally()
    failed = replace(record, status=FAILED, error_code="not_finite", error_message="holds NaN")
    for number in range(9):
        tally.add(record, ())
        tally.add(replace(failed, custom_id=f"r{number // 2}"), ())
    for number in range(5):
        tally.add(replace(failed, error_code="out_of_memory", error_message=f"{number} bytes"), ())
    found = [(reason.code, reason.message, reason.count) for reason in tally.commonest_reasons()]
    assert found == [
        ("not_finite", "holds NaN", 9),
        ("out_of_memory", "with many different messages", 3),
        ("out_of_memory", "0 bytes", 1),
        ("out_of_memory", "1 bytes", 1),
    ]
    assert list(tally.commonest_reasons()[0].custom_ids) == ["r0", "r1"]
    assert [reason.search for reason in tally.commonest_reasons()[:2]] == ["not_finite: holds NaN", "out_of_memory"]
    assert list(tally.image_seconds) == [record.seconds] * 9
    assert tally.hardware == {("host-0/1", "Ascend:0"): "Ascend910B, float16, 8 slots"}


def test_a_card_says_why_there_is_no_picture(record: Record) -> None:
    """A failed row gives its reason; an image that was made and is not there is missing."""
    shown = card_of(record, (), {record.key: Picture("data:,", 192, 192, True)})
    assert (shown.status, shown.fault, shown.facts()["Seed"]) == ("made", "", str(record.seed))
    gone = card_of(record, (), {record.key: "missing in shards/00000.tar"})
    assert (gone.status, gone.fault, gone.picture) == ("missing", "missing in shards/00000.tar", None)
    row = replace(record, status=FAILED, error_code="not_finite", error_message="holds NaN", attempts=3)
    failed = card_of(row, (), {})
    assert (failed.status, failed.fault, failed.facts()["Attempts"]) == ("failed", "not_finite: holds NaN", "3")


def test_a_very_long_prompt_is_cut(record: Record) -> None:
    """A browser holds the captions of all rows in memory; the whole prompt stands in the run's parts."""
    card = card_of(replace(record, prompt="x" * 10_000), (), {record.key: "missing"})
    assert card.caption == "x" * CAPTION_LIMIT_CHARS + "…"


def test_what_rows_share_is_written_once(record: Record) -> None:
    """A hundred thousand rows have a few combinations of parameters."""
    rows = [replace(record, key=str(n), num_inference_steps=20 + n % 2) for n in range(6)]
    content = columns([card_of(row, parameters(row), {row.key: "missing"}) for row in rows])
    assert content["sharedIndex"] == [0, 1, 0, 1, 0, 1]
    assert [shared["Steps"] for shared in content["shared"]] == ["20", "21"]
    assert content["key"] == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("text", ["</script>", "<!--", "\u2028\u2029", "\u202e", "&lt;", '"\\', "\U0001f600", "\ud800"])
def test_text_in_a_script_is_ascii_and_comes_back_as_it_was(text: str) -> None:
    """Whatever it holds, it neither ends the script nor changes its meaning."""
    script = as_script([text])
    assert script.isascii()
    assert not set("<>&") & set(script)
    assert json.loads(script) == [text]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "interpolate", "seed": 3, "to_seed": 8, "fraction": 1 / 3}, "(0.333 of the way from seed 3 to 8)"),
        ({"kind": "trace", "steps_taken": 5}, "(x_0 as predicted at step 5 of 20)"),
        ({"kind": "invert", "reconstruction_error": 0.000188}, "(inverted and made again, error 0.00019)"),
        ({"kind": "invert"}, "(inverted and made again)"),
    ],
)
def test_a_caption_says_of_which_kind_an_image_is(record: Record, fields: dict[str, Any], words: str) -> None:
    """Frames of one prompt are told apart; a plain image is its prompt alone."""
    pictures = {record.key: "gone"}
    assert card_of(replace(record, **fields), (), pictures).caption == f"{record.prompt} {words}"
    assert card_of(record, (), pictures).caption == record.prompt


def test_a_card_shows_what_was_seen_of_a_prompt_and_keeps_the_rest(record: Record) -> None:
    """What an image is compared with is what it was made of; runs are filtered by it."""
    cut = replace(record, prompt="a red circle and a star", prompt_used="a red circle", prompt_tokens=31)
    card = card_of(cut, parameters(cut), {record.key: "gone"})
    facts = card.facts()
    assert (card.caption, facts["Whole prompt"], facts["Tokens"]) == ("a red circle", cut.prompt, "31")
    assert facts["Prompt seen"] == "cut"
    whole = replace(cut, prompt_used=None, long_prompts="chunk", windows=3)
    assert dict(parameters(whole))["Prompt seen"] == "whole, in 3 windows"
    assert "Prompt seen" not in dict(parameters(replace(whole, prompt_tokens=None)))
    away = replace(cut, prompt_used=None, negative_prompt="blur and noise", negative_prompt_used="blur")
    facts = card_of(away, parameters(away), {record.key: "gone"}).facts()
    assert (facts["Negative prompt"], facts["Prompt seen"], facts["Whole prompt"]) == ("blur", "cut", "")
