"""One line may stand for many requests: which ones, and in which order, follows from the line alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ddim_core.contracts.request import Request
from ddim_core.errors import InputError, RequestFaults
from producer.inputs import read_rows
from producer.inputs.lists import read_lists
from producer.requests.model import Model
from producer.requests.rows import Row
from producer.requests.validate import RequestChecker, checked

WriteFile = Callable[[str, str | bytes], str]

COLOURS = {"colour": ["red", "blue"], "shape": ["circle", "star"]}


def expand(model: Model, fields: dict[str, Any], lists: dict[str, list[str]] | None = None) -> list[Request]:
    rows = [Row("p.jsonl", 3, {"prompt": "a", **fields})]
    return list(checked(rows, RequestChecker(model, {}), "p.jsonl", lists))


def faults_of(model: Model, fields: dict[str, Any], lists: dict[str, list[str]] | None = None) -> list[str]:
    with pytest.raises(RequestFaults) as caught:
        expand(model, fields, lists)
    return [str(fault).removeprefix("p.jsonl:3: ") for fault in caught.value.faults]


def test_a_sweep_is_the_product_of_its_values(model: Model) -> None:
    """The last field varies fastest, as in nested loops; each request's id is the line's with a number."""
    sweep = {"seed": {"range": [5, 7]}, "guidance_scale": [2, 4.5], "scheduler.timestep_spacing": ["trailing"]}
    requests = expand(model, {"custom_id": "grid", "sweep": sweep, "scheduler": {"steps_offset": 1}})
    assert [(request.custom_id, request.seed, request.guidance_scale) for request in requests] == [
        ("grid-0", 5, 2.0),
        ("grid-1", 5, 4.5),
        ("grid-2", 6, 2.0),
        ("grid-3", 6, 4.5),
    ]
    assert {tuple(request.scheduler.items()) for request in requests} == {
        (("steps_offset", 1), ("timestep_spacing", "trailing"))
    }


def test_zip_takes_values_side_by_side(model: Model) -> None:
    """One request for each position."""
    sweep = {"num_inference_steps": [10, 20, 50], "eta": {"linspace": [0, 1, 3]}}
    requests = expand(model, {"sweep": sweep, "sweep_mode": "zip"})
    assert [(request.num_inference_steps, request.eta) for request in requests] == [(10, 0.0), (20, 0.5), (50, 1.0)]


def test_requests_without_an_id_are_called_by_their_position(model: Model) -> None:
    """As all others are; what follows goes on counting."""
    rows = [Row("p", 1, {"prompt": "a", "sweep": {"seed": [1, 2]}}), Row("p", 2, {"prompt": "b"})]
    ids = [request.custom_id for request in checked(rows, RequestChecker(model, {}), "p")]
    assert ids == ["000000000", "000000001", "000000002"]


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"range": [0, 3]}, [0, 1, 2]),
        ({"range": [10, 0, -5]}, [10, 5]),
        ({"range": [0, 1, 0.1]}, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        ({"range": [2.5, 1, -0.5]}, [2.5, 2.0, 1.5]),
        ({"linspace": [1, 2, 5]}, [1, 1.25, 1.5, 1.75, 2]),
    ],
)
def test_ranges_hold_the_numbers_that_were_written(model: Model, given: object, values: list[float]) -> None:
    """A tenth is a tenth: no end point comes in, and no 0.30000000000000004, because of rounding."""
    requests = expand(model, {"sweep": {"guidance_scale": given}})
    assert [request.guidance_scale for request in requests] == values


def test_a_prompt_is_filled_from_its_lists(model: Model) -> None:
    """The words become metadata, so that images carry their labels; what the line says itself stands."""
    fields = {"prompt": "a {colour} {shape}", "custom_id": "x", "lists": COLOURS, "metadata": {"shape": "mine"}}
    requests = expand(model, fields)
    assert [request.prompt for request in requests] == ["a red circle", "a red star", "a blue circle", "a blue star"]
    assert [request.custom_id for request in requests] == ["x-0", "x-1", "x-2", "x-3"]
    assert requests[2].metadata == {"colour": "blue", "shape": "mine"}


def test_lists_and_sweeps_combine(model: Model) -> None:
    """Lists first, in the order of the prompt, a name that comes twice once; zipped, everything goes side by side."""
    fields = {"prompt": "{shape}, {colour} {shape}", "negative_prompt": "no {colour}", "sweep": {"seed": [1, 2]}}
    requests = expand(model, {**fields, "lists": COLOURS})
    assert [(request.prompt, request.seed) for request in requests][:3] == [
        ("circle, red circle", 1),
        ("circle, red circle", 2),
        ("circle, blue circle", 1),
    ]
    assert requests[2].negative_prompt == "no blue"
    zipped = expand(model, {**fields, "lists": COLOURS, "sweep_mode": "zip"})
    assert [(request.prompt, request.seed) for request in zipped] == [("circle, red circle", 1), ("star, blue star", 2)]


def test_lists_of_the_run_serve_every_prompt(model: Model) -> None:
    """A prompt uses those that it names; a line's own lists go before the run's."""
    assert [request.prompt for request in expand(model, {"prompt": "a {colour} cat"}, COLOURS)] == [
        "a red cat",
        "a blue cat",
    ]
    own = expand(model, {"prompt": "a {colour} cat", "lists": {"colour": ["black"]}}, COLOURS)
    assert [request.prompt for request in own] == ["a black cat"]


def test_braces_mean_something_only_beside_lists(model: Model) -> None:
    """Prompts that were legal before stay what they are; beside lists a doubled brace is a brace."""
    assert expand(model, {"prompt": "{colour} {{x}} {"})[0].prompt == "{colour} {{x}} {"
    (request,) = expand(model, {"prompt": "{{colour}} }} {{", "custom_id": "x"}, COLOURS)
    assert (request.prompt, request.custom_id) == ("{colour} } {", "x")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"sweep": [1]}, "sweep must be an object of fields and their values, got [1]"),
        (
            {"sweep": {"sed": [1]}},
            "sweep.sed must be one of negative_prompt, .*, scheduler.x, got 'sed'; did you mean seed?",
        ),
        ({"sweep": {"prompt": ["a"]}}, "sweep.prompt must be one of .*, got 'prompt'.*"),
        ({"sweep": {"scheduler.eta": [1]}}, "sweep.scheduler.eta must be one of num_train_timesteps, .*, got 'eta'.*"),
        ({"sweep": {"seed": 3}}, r'sweep.seed must be a list of values, {"range": .*} or {"linspace": .*}, got 3'),
        ({"sweep": {"seed": []}}, "sweep.seed must have at least one value, got none"),
        ({"sweep": {"seed": {"range": [3, 3]}}}, "sweep.seed must have at least one value, got none"),
        ({"sweep": {"eta": {"range": [0, 1, 0]}}}, "sweep.eta must be a range of .*, step not 0, got [0, 1, 0]"),
        ({"sweep": {"eta": {"range": [0, "1"]}}}, "sweep.eta must be a range of .*, got [0, '1']"),
        ({"sweep": {"eta": {"linspace": [0, 1, 1]}}}, "sweep.eta must be a linspace of .*, got [0, 1, 1]"),
        ({"sweep": {"eta": {"linspace": [0, 1]}}}, "sweep.eta must be a linspace of .*, got [0, 1]"),
        ({"sweep": {"seed": {"range": [0, 10**9]}}}, "sweep.seed must have at most 100000 values, got 1000000000"),
        ({"sweep": {"eta": {"range": [0, 1, 1e-9]}}}, "sweep.eta must have at most 100000 values, got 1000000000"),
        ({"sweep": {"seed": [1]}, "seed": 2}, "sweep.seed must not be given beside seed"),
        (
            {"sweep": {"scheduler.steps_offset": [1]}, "scheduler": {"steps_offset": 0}},
            "sweep.scheduler.steps_offset must not be given beside scheduler.steps_offset",
        ),
        (
            {"sweep": {"seed": {"range": [0, 1000]}, "eta": {"linspace": [0, 1, 101]}}},
            "a line must stand for at most 100000 requests, got 1000 x 101 = 101000",
        ),
        (
            {"sweep": {"seed": [1, 2], "eta": [0]}, "sweep_mode": "zip"},
            "sweep_mode zip must have as many values of each, got seed 2, eta 1",
        ),
        ({"sweep": {"seed": [1]}, "sweep_mode": "grid"}, "sweep_mode must be one of product, zip, got 'grid'"),
        ({"sweep_mode": "zip"}, "sweep_mode must stand beside sweep or lists, got neither"),
        ({"lists": ["red"]}, "lists must be an object of names and lists of texts, got ['red']"),
        ({"prompt": "{n}", "lists": {"n": [1]}}, "lists.n must be a list of texts, got [1]"),
        ({"prompt": "a", "lists": {"n": ["b"]}}, "lists.n must have a place in the prompt, as {n}, got none"),
        (
            {"prompt": "{a} {b}", "lists": {"a": ["x"]}},
            "prompt must name lists among a, got {b}; braces of its own must be doubled",
        ),
        (
            {"prompt": "{a} }", "lists": {"a": ["x"]}},
            "prompt must have braces only around a list's name, or doubled as }}, where lists are given, "
            "got } at column 5",
        ),
    ],
)
def test_a_fault_is_found_before_anything_is_made_of_a_line(model: Model, fields: dict[str, Any], fault: str) -> None:
    """And names what is swept as the line does."""
    found = faults_of(model, fields)
    pattern = ".*".join(re.escape(part) for part in fault.split(".*"))
    assert re.fullmatch(pattern, found[0]), found


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        ("a {color} star", "got {color}; did you mean colour?; braces of its own must be doubled"),
        ("a {color} {shap}", "got {color}, {shap}; did you mean colour?; braces of its own must be doubled"),
    ],
)
def test_a_misspelt_list_is_one_fault_with_the_one_that_was_meant(model: Model, prompt: str, fault: str) -> None:
    """And not another one for each list that is left without a place, nor for each request."""
    (found,) = faults_of(
        model,
        {
            "prompt": prompt,
            "lists": {"colour": ["x"], "shape": ["y"]} if "shap" in prompt else {"colour": ["x", "y"]},
            "sweep": {"seed": [1, 2, 3]},
        },
    )
    assert found.startswith("prompt must name lists among colour") and found.endswith(fault)


def test_a_fault_that_many_requests_share_is_told_once(model: Model) -> None:
    """A thousand seeds with one bad eta are one thing to mend."""
    assert faults_of(model, {"sweep": {"seed": {"range": [0, 1000]}, "eta": [0, 1.5]}}) == [
        "sweep.eta must be at most 1.0, got 1.5"
    ]


def test_a_derived_id_must_be_unique_too(model: Model) -> None:
    """Another line may have had the idea to call itself so."""
    rows = [
        Row("p", 1, {"prompt": "a", "custom_id": "x-1"}),
        Row("p", 2, {"prompt": "a", "custom_id": "x", "sweep": {"seed": [1, 2]}}),
    ]
    with pytest.raises(RequestFaults, match=r"^p:2: custom_id must be unique, got 'x-1', which line 1 has$"):
        list(checked(rows, RequestChecker(model, {}), "p"))


def test_tables_may_sweep(model: Model, write: WriteFile) -> None:
    """In a column of its own for each field, or as JSON."""
    path = write(
        "p.csv",
        'prompt,sweep.seed,sweep,lists.size\na {size} star,"[1, 2]","{""eta"": [0, 1]}","[""big""]"\nb,,,\n',
    )
    requests = list(checked(read_rows(path), RequestChecker(model, {}), path))
    assert [(request.prompt, request.seed, request.eta) for request in requests] == [
        ("a big star", 1, 0.0),
        ("a big star", 2, 0.0),
        ("a big star", 1, 1.0),
        ("a big star", 2, 1.0),
        ("b", None, 0.0),
    ]


@pytest.mark.parametrize(("name", "count"), [("prompts", 24), ("sweep", 40), ("template", 18), ("openai_batch", 2)])
def test_the_examples_are_requests(model: Model, name: str, count: int) -> None:
    """A reader tries them first."""
    path = str(Path(__file__).parents[4] / "examples" / f"{name}.jsonl")
    assert len(list(checked(read_rows(path), RequestChecker(model, {}), path))) == count


def test_lists_are_read_from_a_file(write: WriteFile) -> None:
    """A JSON object of names and texts."""
    assert read_lists(write("lists.json", '{"colour": ["red", "blue"]}')) == {"colour": ["red", "blue"]}


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("{", r"the lists must be a JSON object .*, got '.*lists\.json': .*"),
        ("[]", r"the lists must be a JSON object .*, got something else in '.*lists\.json'"),
        ('{"a": "red"}', r".*lists\.json: a must be a list of texts, got 'red'"),
        ('{"a": []}', r".*lists\.json: a must have at least one text, got none"),
        ('{"a b": ["x"]}', r".*lists\.json: a b must have a name of letters, digits, _ and -"),
    ],
)
def test_a_file_that_holds_no_lists_is_refused(write: WriteFile, content: str, rule: str) -> None:
    """Before a prompt is read."""
    with pytest.raises(InputError, match=f"^{rule}$"):
        read_lists(write("lists.json", content))
