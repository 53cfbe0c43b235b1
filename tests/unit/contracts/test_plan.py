"""A chunk's images have keys, specs and an order that follow from the plan."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from pydantic import ValidationError

from ddim_core.contracts.plan import (
    ModelRef,
    PlannedRequest,
    RunPlan,
    chunk_items,
    image_key,
    split_into_chunks,
)
from ddim_core.contracts.request import Request
from ddim_core.schedule import ScheduleConfig


def requests(counts: Sequence[int]) -> list[tuple[int, Request]]:
    return [
        (index, Request(prompt="a", custom_id=str(index), height=8, width=8, num_images_per_prompt=count))
        for index, count in enumerate(counts)
    ]


def plan(**changes: object) -> RunPlan:
    fields = {
        "run_id": "20260101-000000-00000000",
        "created_at": "2026-01-01T00:00:00+00:00",
        "model": ModelRef(name="shapes", digest="sha256:0", scheduler={"timestep_spacing": "trailing"}),
        "request_count": 2,
        "image_count": 7,
        "chunk_count": 3,
        "images_per_chunk": 3,
        "requests_digest": "sha256:0",
    }
    return RunPlan.model_validate({**fields, **changes})


@pytest.mark.parametrize("counts", [[1], [3], [4], [1, 1, 1, 1], [2, 5, 1], [10], [1, 9, 3, 3]])
@pytest.mark.parametrize("images_per_chunk", [1, 3, 100])
def test_every_image_is_in_one_chunk_once(counts: list[int], images_per_chunk: int) -> None:
    """All chunks but the last are full."""
    chunks = list(split_into_chunks(requests(counts), images_per_chunk))
    sizes = [sum(line.image_count for line in chunk) for chunk in chunks]
    assert sizes[:-1] == [images_per_chunk] * (len(chunks) - 1) and 1 <= sizes[-1] <= images_per_chunk
    images = [
        (line.index, image)
        for chunk in chunks
        for line in chunk
        for image in range(line.first_image, line.first_image + line.image_count)
    ]
    assert images == [(index, image) for index, count in enumerate(counts) for image in range(count)]


def test_a_chunks_items_have_keys_in_order() -> None:
    """Five digits of the chunk, four of the place in it, as img2dataset has them."""
    lines = next(iter(split_into_chunks(requests([2, 5]), 3)))
    items = list(chunk_items(plan(), 0, lines))
    assert [(item.key, item.index, item.image) for item in items] == [
        ("000000000", 0, 0),
        ("000000001", 0, 1),
        ("000000002", 1, 0),
    ]
    assert {item.spec.schedule for item in items} == {ScheduleConfig(timestep_spacing="trailing")}
    assert image_key(123_456, 7) == "1234560007"


def test_the_chunking_does_not_change_an_image() -> None:
    """Another size of chunk gives other keys to the same pictures."""
    specs = [
        [
            item.spec
            for number, lines in enumerate(split_into_chunks(requests([2, 5]), size))
            for item in chunk_items(plan(), number, lines)
        ]
        for size in (1, 3, 100)
    ]
    assert specs[0] == specs[1] == specs[2]


@pytest.mark.parametrize("name", ["height", "width", "custom_id"])
def test_a_planned_request_leaves_nothing_to_guess(name: str) -> None:
    """Two workers might guess differently."""
    fields = {"prompt": "a", "height": 8, "width": 8, "custom_id": "x"}
    del fields[name]
    with pytest.raises(ValidationError, match=f"{name} must be filled in before a request is planned"):
        PlannedRequest(index=0, image_count=1, request=Request.model_validate(fields))


@pytest.mark.parametrize(
    "changes",
    [{"run_id": "UPPER"}, {"image_count": 0}, {"images_per_chunk": 10_001}, {"version": 2}, {"container": "zip"}],
)
def test_a_plan_of_another_kind_is_refused(changes: dict[str, object]) -> None:
    """A worker of this version must not guess what a later one meant."""
    with pytest.raises(ValidationError):
        plan(**changes)


def test_a_plan_reads_back_as_it_was_written() -> None:
    """It travels as JSON."""
    assert RunPlan.model_validate_json(plan().model_dump_json()) == plan()
