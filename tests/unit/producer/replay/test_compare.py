"""What is said of an image that was made again, and when it counts as a fault."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddim_core.contracts.record import FAILED, Record
from ddim_core.storage.run_folder import RunFolder, file_entry, shard_path
from producer.replay import compared, lines_of, row_of
from producer.replay.compare import read_image
from tests.unit.storage.runs import SmallRun, write_run

KEY = "000000001"
SLOTS = {"slots": 4}
"""Of a process here; the row has eight."""


@pytest.fixture(params=["webdataset", "imagefolder"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """A small run of each kind."""
    return write_run(str(tmp_path / "run"), SmallRun(container=request.param))


@pytest.fixture
def row(folder: RunFolder) -> Record:
    """The row of its second image."""
    return row_of(folder, KEY)


def again(folder: RunFolder, row: Record, darker: int = 0, level: int = 6, **fields: object) -> Record:
    """Return the row of the same picture as another encoder wrote it, some levels darker in one pixel."""
    with Image.open(io.BytesIO(read_image(folder, row) or b"")) as image:
        pixels = np.array(image)
    pixels[3, 5, 1] -= darker
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", compress_level=level)
    path = Path(folder.url.removeprefix("file://")).with_name("again.png")
    path.write_bytes(sink.getvalue())
    return replace(row, path=str(path), sha256=file_entry("", sink.getvalue()).sha256, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "fields", "outcome", "is_fault"),
    [
        ({}, {}, "same bytes", False),
        ({}, SLOTS, "same bytes", False),
        ({"level": 0}, {}, "bytes differ, pixels are the same", True),
        ({"level": 0}, SLOTS, "bytes differ, pixels are the same", False),
        ({"darker": 3}, {}, "bytes differ, pixels by at most 3 of 255 levels", True),
        ({"darker": 200}, SLOTS, "bytes differ, pixels by at most 200 of 255 levels", False),
    ],
)
def test_bytes_that_differ_are_a_fault_only_where_nothing_else_does(
    folder: RunFolder, row: Record, change: dict[str, int], fields: dict[str, object], outcome: str, is_fault: bool
) -> None:
    """Equal bytes hold for one kind of device, number of slots, precision and set of versions."""
    result = compared(folder, row, again(folder, row, **change, **fields))  # type: ignore[arg-type]
    assert (result.outcome, result.is_fault, str(result)) == (outcome, is_fault, f"{KEY}: {outcome}")


def test_what_is_not_as_in_the_rows_is_said_once_with_the_number_of_rows(folder: RunFolder, row: Record) -> None:
    """Versions one by one, those that only one side names, too."""
    row = replace(row, versions=json.dumps({"mindspore": "2.7.1", "python": "3.11.7"}))
    versions = json.dumps({"mindspore": "2.7.2", "python": "3.11.7", "pillow": "13.0.0"})
    results = [compared(folder, row, again(folder, row, device_kind="cpu", cpu_threads=2, versions=versions))] * 2
    assert list(lines_of(results)) == [
        f"{KEY}: same bytes",
        f"{KEY}: same bytes",
        "device_kind is cpu here, and Ascend910B in 2 rows",
        "cpu_threads is 2 here, and unknown in 2 rows",
        "mindspore is 2.7.2 here, and 2.7.1 in 2 rows",
        "pillow is 13.0.0 here, and unknown in 2 rows",
    ]


def test_an_image_that_is_gone_can_still_be_compared_by_its_hash(folder: RunFolder, row: Record) -> None:
    """The row alone says whether it is the same."""
    same, other = again(folder, row), again(folder, row, level=0)
    folder.store.delete(shard_path(0) if str(row.path).endswith(".tar") else str(row.path))
    assert compared(folder, row, same).outcome == "same bytes"
    result = compared(folder, row, other)
    assert result.outcome == "bytes differ, and there is no image in the run to compare pixels with"
    assert result.is_fault


def test_an_image_that_cannot_be_made_again_is_a_fault_and_one_that_now_can_is_none(
    folder: RunFolder, row: Record
) -> None:
    """A failed row has all that is needed, too."""
    failed = replace(row, status=FAILED, error_class="SampleError", error_message="NaN", path=None, sha256=None)
    result = compared(folder, row, failed)
    assert (result.outcome, result.is_fault) == ("could not be made again: SampleError: NaN", True)
    result = compared(folder, failed, again(folder, row))
    assert (result.outcome, result.is_fault) == ("made; its row says SampleError: NaN", False)
