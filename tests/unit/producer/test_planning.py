"""A plan follows from the requests and the options alone, and the chunks hold every image once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ddim_core.contracts.plan import PlannedRequest
from ddim_core.contracts.request import Request
from ddim_core.errors import InputError
from producer.model import Model
from producer.planning import (
    RunOptions,
    chunk_files,
    default_images_per_chunk,
    is_same_run,
    plan_run,
    spooled,
)


def requests(*counts: int) -> list[Request]:
    return [
        Request(prompt="ü", custom_id=str(index), height=64, width=64, num_images_per_prompt=count)
        for index, count in enumerate(counts)
    ]


def test_chunks_hold_every_image_once_in_order() -> None:
    """A request with many images goes on in the next chunk."""
    with spooled(requests(3, 1, 5)) as spool:
        files = list(chunk_files(spool, 4))
    planned = [[PlannedRequest.model_validate_json(line) for line in file.splitlines()] for file in files]
    assert [[(line.index, line.first_image, line.image_count) for line in chunk] for chunk in planned] == [
        [(0, 0, 3), (1, 0, 1)],
        [(2, 0, 4)],
        [(2, 4, 1)],
    ]
    assert planned[0][0].request == requests(3)[0]


@pytest.mark.parametrize(
    ("images", "expected"), [(1, 4), (64, 4), (65, 5), (160, 10), (16_000, 1000), (16_001, 1000), (10**6, 1000)]
)
def test_a_small_run_spreads_over_several_workers(images: int, expected: int) -> None:
    """And a large one has shards of a size that loaders like."""
    assert default_images_per_chunk(images) == expected


def test_the_plan_counts_requests_images_and_chunks(model: Model) -> None:
    """The last chunk may be smaller."""
    with spooled(requests(3, 1, 5)) as spool:
        plan = plan_run(spool, model, RunOptions(out="x", images_per_chunk=4))
    assert (plan.request_count, plan.image_count, plan.chunk_count, plan.images_per_chunk) == (3, 9, 3, 4)
    assert plan.model.schedule() == model.schedule


def test_the_same_input_gives_the_same_run(model: Model) -> None:
    """Whoever gives the same command again means the run that is there."""
    with spooled(requests(3)) as spool, spooled(requests(3)) as again:
        first = plan_run(spool, model, RunOptions(out="x"))
        second = plan_run(again, model, RunOptions(out="x"))
    assert first.run_id != second.run_id
    assert is_same_run(first, second)


@pytest.mark.parametrize("change", [{"seed": 1}, {"container": "imagefolder"}, {"images_per_chunk": 2}])
def test_another_option_gives_another_run(model: Model, change: dict[str, Any]) -> None:
    """Going on would leave a run of two kinds of files."""
    with spooled(requests(8)) as spool:
        first = plan_run(spool, model, RunOptions(out="x"))
        assert not is_same_run(first, plan_run(spool, model, RunOptions(out="x", **change)))


def test_other_weights_or_requests_give_another_run(model: Model) -> None:
    """The checkpoint is told by its digest and not by its name."""
    with spooled(requests(8)) as spool, spooled(requests(7, 1)) as other:
        first = plan_run(spool, model, RunOptions(out="x"))
        assert not is_same_run(first, plan_run(spool, replace(model, digest="sha256:1"), RunOptions(out="x")))
        assert is_same_run(first, plan_run(spool, replace(model, name="/a/copy"), RunOptions(out="x")))
        assert not is_same_run(first, plan_run(other, model, RunOptions(out="x")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RunOptions(out="x", seed=-1), "the run's seed must be from 0 to 9223372036854775807, got -1"),
        (lambda: RunOptions(out="x", seed=2**63), "the run's seed must be from 0 to .*, got 9223372036854775808"),
        (lambda: RunOptions(out="x", images_per_chunk=0), "images per chunk must be from 1 to 10000, got 0"),
        (lambda: RunOptions(out="x", images_per_chunk=10_001), "images per chunk must be from 1 to 10000, got 10001"),
    ],
)
def test_an_option_out_of_range_is_refused(make: Callable[[], RunOptions], message: str) -> None:
    """Before a line of the input is read."""
    with pytest.raises(InputError, match=f"^{message}$"):
        make()
