"""Every request has one line, in one of two files, whose bytes follow from the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim_core.contracts.manifest import FileEntry
from ddim_core.storage.run_folder import RunFolder
from tests.unit.storage.runs import small_plan
from workers.finishing.results import ERRORS, RESULTS, ResultLines


@dataclass(frozen=True)
class Row:
    """A row with the columns that the lines are made from."""

    request_index: int
    image: int = 0
    error_code: str | None = None
    error_message: str | None = None

    def __getattr__(self, name: str) -> Any:
        """Return what follows from the rest."""
        made = self.error_code is None
        return {
            "key": f"{self.request_index:05d}{self.image:04d}",
            "custom_id": f"request {self.request_index}",
            "prompt_used": None,
            "status": "success" if made else "failed",
            "path": "shards/00000.tar" if made else None,
            "sha256": f"{self.image:064x}" if made else None,
        }[name]


def written(path: Path, rows: Sequence[Row]) -> tuple[RunFolder, list[FileEntry]]:
    folder = RunFolder(str(path))
    lines = ResultLines(small_plan())
    for row in rows:
        lines.add(row)
    return folder, lines.write(folder)


def lines_of(folder: RunFolder, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.store.get(name).splitlines()]


def test_a_request_is_a_line_with_its_images(tmp_path: Path) -> None:
    """In the order of the images, with where each is and what it must hash to."""
    folder, entries = written(tmp_path, [Row(0), Row(1, 0), Row(1, 1)])
    first, second = lines_of(folder, RESULTS)
    run_id = small_plan().run_id
    assert first["custom_id"] == "request 0"
    assert (first["id"], first["response"]["request_id"]) == (
        f"batch_req_{run_id}_000000000",
        f"req_{run_id}_000000000",
    )
    assert first["response"]["status_code"] == 200 and first["error"] is None
    assert second["response"]["body"]["data"] == [
        {"image": n, "key": f"00001000{n}", "path": "shards/00000.tar", "sha256": f"{n:064x}"} for n in (0, 1)
    ]
    assert [entry.path for entry in entries] == [RESULTS]


def test_a_request_of_which_nothing_was_made_is_an_error_line(tmp_path: Path) -> None:
    """Named by the code of the failure; the other file has no line of it."""
    folder, _ = written(tmp_path, [Row(0), Row(1, 0, "out_of_memory", "the device is full")])
    (error,) = lines_of(folder, ERRORS)
    assert (error["custom_id"], error["response"]) == ("request 1", None)
    assert error["error"] == {"code": "out_of_memory", "message": "the device is full"}
    assert [line["custom_id"] for line in lines_of(folder, RESULTS)] == ["request 0"]


def test_a_partial_failure_is_a_result_with_an_error_beside(tmp_path: Path) -> None:
    """What was made is not lost, and nobody takes it for all."""
    folder, _ = written(tmp_path, [Row(0, 0), Row(0, 1, "not_finite", "the image holds NaN"), Row(0, 2)])
    (line,) = lines_of(folder, RESULTS)
    assert [image["image"] for image in line["response"]["body"]["data"]] == [0, 2]
    assert line["error"] == {
        "code": "partial_failure",
        "message": "1 of 3 images failed, image 1: not_finite: the image holds NaN",
    }
    assert not folder.store.exists(ERRORS)


def test_the_same_rows_give_the_same_bytes_with_their_hash(tmp_path: Path) -> None:
    """Two workers may finish a run at once, and the manifest lists the files."""
    rows = [Row(0), Row(1, 0, "sample_failed", "ü\u2028")]
    folder, entries = written(tmp_path / "a", rows)
    again, entries_again = written(tmp_path / "b", rows)
    assert entries == entries_again
    for entry in entries:
        data = folder.store.get(entry.path)
        assert data == again.store.get(entry.path)
        assert (entry.size_bytes, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_errors_that_were_mended_leave_no_file(tmp_path: Path) -> None:
    """When failed images were made again, the run ends anew."""
    written(tmp_path, [Row(0, 0, "sample_failed", "x")])
    folder, entries = written(tmp_path, [Row(0)])
    assert [entry.path for entry in entries] == [RESULTS]
    assert not folder.store.exists(ERRORS)
