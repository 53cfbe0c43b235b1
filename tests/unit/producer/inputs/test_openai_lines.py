"""Lines of the OpenAI Batch form are requests under their names, and faults name the fields that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from ddim_core.contracts.request import Request
from ddim_core.errors import RequestFaults
from producer.inputs import read_rows
from producer.requests.model import Model
from producer.requests.validate import RequestChecker, checked

WriteFile = Callable[[str, str | bytes], str]

LINE = {"custom_id": "a", "method": "POST", "url": "/v1/images/generations"}


def batch_line(body: object, **fields: object) -> str:
    return json.dumps({**LINE, "body": body, **fields}) + "\n"


def requests_of(path: str, model: Model, **options: Any) -> list[Request]:
    return list(checked(read_rows(path), RequestChecker(model, {}, **options), path))


def faults_of(path: str, model: Model, **options: Any) -> list[str]:
    with pytest.raises(RequestFaults) as caught:
        requests_of(path, model, **options)
    return [str(fault).removeprefix(f"{path}:") for fault in caught.value.faults]


def test_a_line_becomes_a_request(model: Model, write: WriteFile) -> None:
    """Their names for what they know, diffusers' for what they do not; null leaves a field out."""
    body = {
        "prompt": "a star",
        "model": "shapes",
        "n": 3,
        "size": "32x64",
        "output_format": "png",
        "seed": 7,
        "num_inference_steps": 20,
        "scheduler": {"timestep_spacing": "trailing"},
        "eta": None,
    }
    (request,) = requests_of(write("p.jsonl", batch_line(body)), model)
    assert request == Request(
        prompt="a star",
        num_images_per_prompt=3,
        width=32,
        height=64,
        seed=7,
        num_inference_steps=20,
        scheduler={"timestep_spacing": "trailing"},
        custom_id="a",
    )


def test_what_a_line_leaves_out_is_the_runs(model: Model, write: WriteFile) -> None:
    """As with lines of our own; ``auto`` is the model's size."""
    for body in ({"prompt": "a"}, {"prompt": "a", "size": "auto"}):
        (request,) = requests_of(write("p.jsonl", batch_line(body)), model)
        assert (request.width, request.height, request.num_images_per_prompt) == (64, 64, 1)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"method": "GET"}, "method must be POST, got 'GET'"),
        ({"url": "/v1/chat/completions"}, "url must be /v1/images/generations, got '/v1/chat/completions'"),
        ({"custom_id": None}, "custom_id must be given in the OpenAI Batch form"),
        ({"custom_id": ""}, "custom_id must not be empty, got ''"),
        ({"body": "a star"}, "body must be an object of names and values, got 'a star'"),
        ({"priority": 1}, "a field must be one of custom_id, method, url, body, got 'priority'"),
        ({"body": {}}, "body.prompt must be given with shapes"),
        ({"body": {"prompt": "a", "n": 0}}, "body.n must be at least 1, got 0"),
        ({"body": {"prompt": "a", "eta": 2}}, "body.eta must be at most 1.0, got 2"),
        ({"body": {"prompt": "a", "size": "66x64"}}, "body.size must be a multiple of 4 with shapes, got 66"),
        (
            {"body": {"prompt": "a", "size": "large"}},
            "body.size must be WIDTHxHEIGHT in pixels, as in 512x512, or auto, got 'large'",
        ),
        ({"body": {"prompt": "a", "size": "64x64", "width": 64}}, "body.size must not be given beside body.width"),
        ({"body": {"prompt": "a", "n": 1, "num_images_per_prompt": 1}}, "body.n must not be given beside .*"),
        ({"body": {"prompt": "a", "scheduler": {"steps_offset": -1}}}, "body.scheduler.steps_offset must be a .*"),
        (
            {"body": {"prompt": "a", "quality": "hd"}},
            "a field of body must be one of prompt, model, output_format, n, size, negative_prompt, .*, got 'quality'",
        ),
        (
            {"body": {"prompt": "a", "model": "dall-e-3"}},
            "body.model must be shapes, as the run's, or left out, got 'dall-e-3'",
        ),
        (
            {"body": {"prompt": "a", "output_format": "webp"}},
            "body.output_format must be png, as the run's, or left out, got 'webp'; --image-format sets the run's",
        ),
    ],
)
def test_a_fault_names_the_field_as_the_line_does(
    model: Model, write: WriteFile, fields: dict[str, Any], fault: str
) -> None:
    """Nobody has to know our names to mend theirs."""
    (found,) = faults_of(write("p.jsonl", batch_line(**{"body": {"prompt": "a"}, **fields})), model)
    assert re.fullmatch(f"1: {fault}", found)


def test_all_faults_of_a_body_are_found(model: Model, write: WriteFile) -> None:
    """What the run must be like is looked at even where the request is none."""
    found = faults_of(write("p.jsonl", batch_line({"prompt": "", "model": "x", "output_format": "gif", "n": 0})), model)
    assert [fault.split(" ")[1] for fault in found] == ["body.model", "body.output_format", "body.prompt", "body.n"]


def test_a_repeated_custom_id_is_refused(model: Model, write: WriteFile) -> None:
    """Results are told apart by it."""
    path = write("p.jsonl", batch_line({"prompt": "a"}) * 2)
    assert faults_of(path, model) == ["2: custom_id must be unique, got 'a', which line 1 has"]


@pytest.mark.parametrize(("image_format", "name"), [("jpg", "jpeg"), ("jpg", "jpg"), ("webp", "webp")])
def test_the_format_of_the_run_may_be_named(model: Model, write: WriteFile, image_format: str, name: str) -> None:
    """Under their name for it, too."""
    path = write("p.jsonl", batch_line({"prompt": "a", "output_format": name}))
    assert len(requests_of(path, model, image_format=image_format)) == 1


def test_a_file_has_one_form(model: Model, write: WriteFile) -> None:
    """A mixture is two files put together by mistake, and says which line began otherwise."""
    ours, theirs = '{"prompt": "a"}\n', batch_line({"prompt": "a"})
    forms = ("a request's own fields", "the OpenAI Batch form (custom_id, method, url, body)")
    assert faults_of(write("a.jsonl", f"\n{ours}{theirs}"), model) == [
        f"3: the line must have {forms[0]} as line 2 has, got {forms[1]}"
    ]
    assert faults_of(write("b.jsonl", theirs + ours), model) == [
        f"2: the line must have {forms[1]} as line 1 has, got {forms[0]}"
    ]
