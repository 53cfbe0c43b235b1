"""Metadata on cards and as filters: whatever people put there, in memory and pages that stay small."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.contracts.record import Record
from producer.report.beside import as_script, columns
from producer.report.cards import card_of
from producer.report.facets import MAX_CHOICES, WORDS, field_of
from producer.report.labels import (
    FIELDS_COUNTED,
    MAX_FILTERS,
    NAME_LIMIT_CHARS,
    ON_A_CARD,
    VALUE_LIMIT_CHARS,
    LabelTally,
    labels_of,
)
from tests.unit.contracts.test_record import FAILURE


def tally_of(images: list[dict[str, str]]) -> LabelTally:
    """Return the tally of images with these metadata."""
    tally = LabelTally()
    for metadata in images:
        tally.add(labels_of(replace(FAILURE, metadata=metadata)))
    return tally


def test_few_values_are_a_choice_many_numbers_a_range_and_many_words_are_searched() -> None:
    """So that a list never grows with the run; a field that tells nothing apart is no filter."""
    tally = tally_of(
        [
            {"split": "train" if n % 3 else "test", "score": f"{n / 10}", "subject": f"s{n}", "same": "x"}
            for n in range(MAX_CHOICES + 10)
        ]
    )
    assert [(facet.name, facet.kind) for facet in tally.filters()] == [("split", "choice"), ("score", "range")]
    assert tally.searched() == ["subject"]
    assert (tally.facets["score"].low, tally.facets["score"].high) == (0.0, 4.9)
    assert max(len(facet.counts) for facet in tally.facets.values()) == MAX_CHOICES


def test_a_field_that_some_images_lack_tells_them_apart() -> None:
    """Even where it has one value: with it or without."""
    tally = tally_of([{"reviewed": "yes"}, {}, {}])
    (facet,) = tally.filters()
    assert (facet.name, facet.counts, tally.without(facet)) == ("reviewed", {"yes": 1}, 2)


def test_a_name_of_its_own_for_every_image_costs_no_memory() -> None:
    """Someone may use ids as names; what is not counted is still found by the search."""
    tally = tally_of([{f"id-{n}": "x"} for n in range(5000)])
    assert len(tally.facets) == FIELDS_COUNTED
    assert (len(tally.filters()), tally.more) == (MAX_FILTERS, True)
    assert len(tally.searched()) == FIELDS_COUNTED - MAX_FILTERS
    many = labels_of(replace(FAILURE, metadata={str(n): "x" for n in range(500)}))
    assert len(many) == ON_A_CARD


def test_what_looks_like_a_number_to_python_alone_is_a_word() -> None:
    """A browser reads neither, and one NaN would make every range empty."""
    for odd in ("nan", "inf", "1_000", "٣", "0x10", " 7", "1e999"):
        tally = tally_of([{"n": str(n)} for n in range(MAX_CHOICES)] + [{"n": odd}])
        assert tally.filters() == []
        assert tally.searched() == ["n"]


def test_values_of_other_types_are_shown_as_json() -> None:
    """A run may come from a producer that took them."""
    metadata = {"a": 7, "b": True, "c": None, "d": [1]}
    assert labels_of(replace(FAILURE, metadata=metadata)) == (("a", "7"), ("b", "true"), ("c", "null"), ("d", "[1]"))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.dictionaries(st.text(max_size=120), st.text(max_size=300), max_size=30), min_size=1, max_size=5))
def test_any_metadata_come_through_the_pages_data(images: list[dict[str, str]]) -> None:
    """Names such as __proto__ too: they stay pairs, and never become names of an object; each set is written once."""
    rows = [replace(FAILURE, metadata=metadata) for metadata in (*images, *images)]
    content = json.loads(as_script(columns([card_of(row, (), {}) for row in rows])))
    found = [[tuple(pair) for pair in content["labels"][index]] for index in content["labelsIndex"]]
    assert found == [list(labels_of(row)) for row in rows]
    assert len(content["labels"]) <= len(images)
    assert all(len(n) <= NAME_LIMIT_CHARS + 1 and len(v) <= VALUE_LIMIT_CHARS + 1 for row in found for n, v in row)


def test_filters_speak_as_people_do(record: Record) -> None:
    """And say what to write into a request."""
    words = [name for name, _ in card_of(record, (), {record.key: "gone"}).shared]
    assert not [word for word in words if "_" in word]
    assert all("_" not in word for word in WORDS.values())
    assert (field_of("Steps"), field_of("A step leads"), field_of("Eta"), field_of("Size")) == (
        "num_inference_steps",
        "timestep_pairs",
        "",
        "",
    )
