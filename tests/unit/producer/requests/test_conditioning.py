"""What checkpoints that take no prompts ask of a request, and what its images are then said to show."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from ddim_core.checkpoints.labels import ClassLabels
from ddim_core.contracts.request import Request
from ddim_core.errors import RequestFaults
from producer.requests.model import Model
from producer.requests.rows import Row
from producer.requests.validate import RequestChecker

NAMES = {0: "tench, Tinca tinca", 1: "crane", 2: "white shark, man-eater", 3: "crane", 4: "5"}


@pytest.fixture
def dit(model: Model) -> Model:
    """A class-conditional checkpoint of one size, whose classes from 5 on have no name."""
    labels = ClassLabels(1000, NAMES)
    return replace(model, name="dit", takes="class_label", labels=labels, guidance_scale=4.0, fixed_size=True)


@pytest.fixture
def pixels(model: Model) -> Model:
    """An unconditional checkpoint."""
    return replace(model, name="pixels", takes="nothing", guidance_scale=1.0)


def check(model: Model, fields: dict[str, Any], *, typed: bool = True, **defaults: Any) -> Request:
    return RequestChecker(model, defaults).check(Row("p.jsonl", 3, fields, typed))


def faults_of(model: Model, fields: dict[str, Any], *, typed: bool = True) -> list[str]:
    with pytest.raises(RequestFaults) as caught:
        check(model, fields, typed=typed)
    return [str(fault).removeprefix("p.jsonl:3: ") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("label", "index", "caption"),
    [
        (0, 0, "tench, Tinca tinca"),
        (999, 999, "class 999"),
        ("207", 207, "class 207"),
        (207.0, 207, "class 207"),
        ("Tinca tinca", 0, "tench, Tinca tinca"),
        ("white shark, man-eater", 2, "white shark, man-eater"),
        (" man-eater ", 2, "white shark, man-eater"),
        ("5", 4, "5"),
    ],
)
def test_a_class_is_named_by_number_or_label_and_becomes_the_caption(
    dit: Model, label: Any, index: int, caption: str
) -> None:
    """Manifests, shards and tables have a text for every image."""
    request = check(dit, {"class_label": label})
    assert (request.class_label, request.prompt, request.guidance_scale) == (index, caption, 4.0)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, "class_label must be given with dit, from 0 to 999"),
        ({"class_label": 1000}, "class_label must be from 0 to 999 or one of its labels with dit, got 1000"),
        ({"class_label": -1}, "class_label must be from 0 to 999 or one of its labels with dit, got -1"),
        (
            {"class_label": "tensh"},
            "class_label must be from 0 to 999 or one of its labels with dit, got tensh; did you mean tench?",
        ),
        ({"class_label": "crane"}, "class_label must name one class of dit, got 'crane', which 1 and 3 share"),
        ({"class_label": True}, "class_label must be a whole number or a label, got True"),
        ({"class_label": [3]}, "class_label must be a whole number or a label, got [3]"),
        ({"class_label": 1, "prompt": "a"}, "prompt must be left out with dit, which takes a class_label, got 'a'"),
        (
            {"class_label": 1, "negative_prompt": "a"},
            "negative_prompt must be left out with dit, which takes a class_label, got 'a'",
        ),
        ({"class_label": 1, "height": 128}, "height must be 64 with dit, got 128"),
    ],
)
def test_what_a_class_conditional_checkpoint_refuses(dit: Model, fields: dict[str, Any], fault: str) -> None:
    """One line that names the field, the rule and the value."""
    assert faults_of(dit, fields) == [fault]


def test_classes_without_names_are_told_by_their_number_alone(dit: Model) -> None:
    """The message does not offer labels that there are none of."""
    nameless = replace(dit, labels=ClassLabels(1000))
    assert faults_of(nameless, {"class_label": 1000}) == ["class_label must be from 0 to 999 with dit, got 1000"]
    assert check(nameless, {"class_label": "7"}, typed=False).prompt == "class 7"


def test_an_unconditional_checkpoint_asks_for_nothing(pixels: Model) -> None:
    """A line may be empty but for a number of images; the caption is empty."""
    request = check(pixels, {"num_images_per_prompt": 5, "prompt": ""})
    assert (request.prompt, request.class_label, request.guidance_scale) == ("", None, 1.0)
    assert Request.model_validate_json(request.model_dump_json(exclude_defaults=True)) == request


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"prompt": "a"}, "prompt must be left out with pixels, which takes no condition, got 'a'"),
        ({"class_label": 1}, "class_label must be left out with pixels, which takes no condition, got 1"),
        ({"guidance_scale": 2.5}, "guidance_scale must be at most 1 with pixels, which takes no condition, got 2.5"),
    ],
)
def test_what_an_unconditional_checkpoint_refuses(pixels: Model, fields: dict[str, Any], fault: str) -> None:
    """What would be ignored is refused."""
    assert faults_of(pixels, fields) == [fault]


def test_a_checkpoint_that_takes_prompts_refuses_a_class(model: Model) -> None:
    """It would be ignored."""
    fault = "class_label must be left out with shapes, which takes a prompt, got 3"
    assert faults_of(model, {"prompt": "a", "class_label": 3}) == [fault]


def test_defaults_are_checked_as_their_checkpoint_takes_them(dit: Model, pixels: Model) -> None:
    """Before the first line is read."""
    assert check(dit, {}, class_label="Tinca tinca").class_label == 0
    assert check(dit, {"class_label": 7}, class_label=3).class_label == 7
    with pytest.raises(RequestFaults, match=re.escape("the run's defaults: class_label must be from 0 to 999 or")):
        RequestChecker(dit, {"class_label": 1000})
    with pytest.raises(RequestFaults, match=re.escape("the run's defaults: negative_prompt must be left out with")):
        RequestChecker(pixels, {"negative_prompt": "a"})
