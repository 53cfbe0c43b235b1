"""A plan follows from the requests and the options alone, and the chunks hold every image once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ddim_core.contracts.plan import PlannedRequest, split_into_chunks
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import MAX_SIZES
from ddim_core.errors import HostError, InputError
from ddim_core.storage.run_folder import encode_chunk
from producer.requests.model import Model
from producer.requests.spool import chunk_files, spooled
from producer.runs.options import RunOptions
from producer.runs.planning import default_images_per_chunk, is_same_run, plan_run


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


@pytest.mark.parametrize("images_per_chunk", [1, 2, 3, 4, 100])
def test_chunk_files_are_those_that_the_contract_describes(images_per_chunk: int) -> None:
    """They are put together from JSON; what reads them must find what pydantic would have written."""
    asked = [*requests(3, 1, 5), Request(prompt='"quotes" \u2028 \n {', custom_id="x", seed=7, height=32, width=64)]
    with spooled(asked) as spool:
        files = list(chunk_files(spool, images_per_chunk, first_index=40))
    assert files == list(map(encode_chunk, split_into_chunks(enumerate(asked, 40), images_per_chunk)))


def test_a_full_disk_is_called_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million requests need some hundred megabytes for as long as they are planned."""
    full = Path("/dev/full").open("r+b")  # noqa: SIM115 - closed by what it is given to
    monkeypatch.setattr("producer.requests.spool.tempfile.TemporaryFile", lambda prefix: full)
    with (
        pytest.raises(
            HostError, match=r"^there must be room for the requests in \S+, got: No space left on device; set"
        ),
        spooled(requests(1)),
    ):
        pass


def test_a_workload_adds_up_what_devices_will_do() -> None:
    """A step with guidance asks the denoiser twice; pixels tell sizes apart."""
    asked = [
        Request(prompt="a", custom_id="a", height=64, width=32, num_inference_steps=10, guidance_scale=1.0),
        Request(prompt="b", custom_id="b", height=8, width=8, num_inference_steps=20, num_images_per_prompt=3),
    ]
    with spooled(asked) as spool:
        workload = spool.workload
        assert workload.request_bytes == sum(len(line) for *_, line in spool.lines())
    assert (workload.requests, workload.images, workload.steps, workload.evaluations) == (2, 4, 70, 130)
    assert (workload.pixels, workload.pixel_evaluations) == (2048 + 3 * 64, 10 * 2048 + 120 * 64)


def test_a_workload_lists_what_workers_must_compile() -> None:
    """The sizes by the number of their images, a bounded number of them, and whether there is thresholding."""
    asked = [
        Request(prompt="a", custom_id="a", height=64, width=32),
        Request(prompt="b", custom_id="b", height=8, width=8, num_images_per_prompt=3),
        *(Request(prompt="c", custom_id=f"c{side}", height=8 * side, width=8) for side in range(2, 100)),
    ]
    thresholding = Request(prompt="d", custom_id="d", height=8, width=8, scheduler={"thresholding": True})
    with spooled(asked) as spool:
        workload = spool.workload
    assert workload.frequent_sizes()[:2] == ("8x8", "32x64")
    assert (len(workload.frequent_sizes()), workload.thresholding) == (MAX_SIZES, False)
    with spooled([*asked, thresholding]) as spool:
        assert spool.workload.thresholding


@pytest.mark.parametrize(
    ("images", "expected"),
    [(1, 4), (64, 4), (65, 5), (160, 10), (256, 16), (1024, 16), (1025, 17), (2200, 35), (64_000, 1000), (10**6, 1000)],
)
def test_a_run_spreads_over_many_workers(images: int, expected: int) -> None:
    """A small one in chunks that still fill a device; a large one has shards of a size that loaders like."""
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
        (lambda: RunOptions(out="x", lists={"colour": "red"}), "the list colour must be a list of texts, got 'red'"),
        (lambda: RunOptions(out="x", lists={"colour": []}), "the list colour must have at least one text, got none"),
    ],
)
def test_an_option_out_of_range_is_refused(make: Callable[[], RunOptions], message: str) -> None:
    """Before a line of the input is read."""
    with pytest.raises(InputError, match=f"^{message}$"):
        make()
