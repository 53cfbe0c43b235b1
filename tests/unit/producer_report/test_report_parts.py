"""What a report is made of: pictures, rows, speeds, and how numbers are written."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ddim_core.contracts.manifest import ChunkStats
from ddim_core.contracts.record import FAILED, Record
from ddim_core.storage.run_folder import shard_path
from producer.report import rows as report_rows
from producer.report.facts import moment, read_facts
from producer.report.pictures import THUMBNAIL_PX, Picture, PictureReader, picture
from producer.report.rows import Rows, parameters, read_rows
from producer.report.speed import chunk_seconds, timeline, worker_speeds
from producer.report.write import clock, duration, grouped
from tests.unit.storage.runs import SmallRun, draw, write_run


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """The first row of a small run, which is at ``tmp_path``."""
    return write_run(str(tmp_path), SmallRun()).read_records(0)[0]


def decoded(found: Picture) -> Image.Image:
    """Return the image that a data URI holds."""
    return Image.open(io.BytesIO(base64.b64decode(found.source.partition(",")[2])))


def test_a_small_image_is_kept_byte_for_byte_and_shown_in_whole_multiples() -> None:
    """A pixel of a 64 pixel image becomes a square of 3 by 3."""
    found = picture(draw("a red circle", 64), "png")
    assert (found.width_px, found.height_px, found.enlarged) == (192, 192, True)
    assert found.source == "data:image/png;base64," + base64.b64encode(draw("a red circle", 64)).decode()


def test_a_large_image_becomes_a_thumbnail_of_the_same_shape() -> None:
    """A page of 500 images must stay a page that a browser opens."""
    sink = io.BytesIO()
    Image.effect_noise((1024, 512), 80).convert("RGB").save(sink, "PNG")
    found = picture(sink.getvalue(), "png")
    assert (found.width_px, found.height_px, found.enlarged) == (THUMBNAIL_PX, THUMBNAIL_PX // 2, False)
    assert decoded(found).size == (THUMBNAIL_PX, THUMBNAIL_PX // 2)
    assert len(found.source) < len(sink.getvalue()) / 5


@pytest.mark.parametrize("container", ["webdataset", "imagefolder"])
def test_images_are_read_from_either_container(tmp_path: Path, container: str) -> None:
    """Each row leads to the picture that its prompt asked for."""
    run = SmallRun(container="imagefolder" if container == "imagefolder" else "webdataset")
    folder = write_run(str(tmp_path), run)
    reader = PictureReader(folder)
    for row in folder.records():
        assert reader.read(row) == picture(draw(row.prompt, 64), "png")


def test_an_image_that_is_missing_damaged_or_none_is_said_to_be(tmp_path: Path, record: Record) -> None:
    """A report must come out even where the run's folder has been tampered with."""
    folder = write_run(str(tmp_path / "again"), SmallRun())
    assert PictureReader(folder).read(replace(record, sha256="0" * 64)) == "damaged in shards/00000.tar"
    assert PictureReader(folder).read(replace(record, key="999999999")) == "missing in shards/00000.tar"
    folder.store.put(shard_path(0), folder.store.get(shard_path(0))[:700])
    assert PictureReader(folder).read(record) == "missing in shards/00000.tar"
    folder.store.delete(shard_path(0))
    assert PictureReader(folder).read(record) == "missing in shards/00000.tar"


def test_rows_are_limited_and_failures_all_counted(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, a page has so many cards and so many ids; the counts are of all."""
    monkeypatch.setattr(report_rows, "IMAGE_LIMIT", 3)
    monkeypatch.setattr(report_rows, "FAILURE_CARD_LIMIT", 2)
    monkeypatch.setattr(report_rows, "IDS_PER_REASON", 2)
    rows = Rows()
    failed = replace(record, status=FAILED, error_class="SampleError", error_message="holds NaN")
    for number in range(9):
        rows.add(replace(record, key=f"{number:09d}"))
        rows.add(replace(failed, key=f"1{number:08d}", custom_id=f"r{number // 2}"))
    rows.add(replace(failed, error_class="OutOfMemoryError", error_message="too little"))
    assert (len(rows.made), len(rows.failed), len(rows.shown())) == (3, 2, 5)
    assert [(reason.error_class, reason.count) for reason in rows.commonest_reasons()] == [
        ("SampleError", 9),
        ("OutOfMemoryError", 1),
    ]
    assert rows.commonest_reasons()[0].custom_ids == ["r0", "r1"]


def test_only_the_parts_that_are_shown_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a million images has thousands of parts; those without a failure past the first images are skipped."""
    monkeypatch.setattr(report_rows, "IMAGE_LIMIT", 2)
    prompts = [f"a red square {number}" for number in range(8)]
    folder = write_run(str(tmp_path), SmallRun(prompts=prompts, failing=frozenset({prompts[7]})))
    for chunk in (1, 2):
        folder.store.put(f"parts/{chunk:05d}.parquet", b"not read")
    rows = read_rows(folder, read_facts(folder))
    assert [row.prompt for row in rows.shown()] == [prompts[0], prompts[1], prompts[7]]


def test_parameters_are_listed_in_full_where_they_are_few(record: Record) -> None:
    """Numbers in order and written short; a range where there are many."""
    assert dict(parameters([record]))["Guidance scale"] == "7.5"
    mixed = [replace(record, num_inference_steps=steps) for steps in (50, 8, 20)]
    assert dict(parameters(mixed))["Steps"] == "8, 20, 50"
    many = [replace(record, num_inference_steps=steps) for steps in range(10, 60)]
    assert dict(parameters(many))["Steps"] == "10 to 59 (50 values)"
    assert list(parameters([])) == []


def stats(chunk: int, start_s: int, end_s: int, worker: str = "w0", images: int = 6) -> ChunkStats:
    """Return the totals of a chunk that took these seconds of a minute."""
    return ChunkStats(
        chunk=chunk,
        images=images,
        failed=0,
        attempts=1,
        seconds=float(end_s - start_s),
        started_at=f"2026-01-01T00:00:{start_s:02d}Z",
        finished_at=f"2026-01-01T00:00:{end_s:02d}+00:00",
        worker=worker,
        device="Ascend:0",
        files=(),
    )


def test_a_workers_speed_counts_overlapping_time_once() -> None:
    """Two chunks of 6 images that overlap from 0 to 8 s are 1.5 images/s, not 1.2."""
    (speed,) = worker_speeds([stats(0, 0, 5), stats(1, 3, 8)])
    assert (speed.chunks, speed.images, speed.images_per_s) == (2, 12, 1.5)


def test_workers_are_told_apart_by_name_and_device() -> None:
    """Each has a row of its own."""
    assert [speed.worker for speed in worker_speeds([stats(0, 0, 5, "b"), stats(1, 0, 5, "a")])] == ["a", "b"]


def test_nothing_done_has_no_speed_and_no_timeline() -> None:
    """A report may be asked for before the first chunk."""
    assert worker_speeds([]) == []
    assert chunk_seconds([]) == {}
    assert timeline([]) is None
    assert worker_speeds([stats(0, 5, 5, images=0)])[0].images_per_s is None


def test_chunk_times_come_in_order() -> None:
    """Shortest, median, 95th percentile, longest; one chunk is all of them."""
    assert list(chunk_seconds([stats(0, 0, 5)]).values()) == [5.0] * 4
    assert list(chunk_seconds([stats(n, 0, n + 1) for n in range(21)]).values()) == [1.0, 11.0, 20.0, 21.0]


def test_the_timeline_places_chunks_by_worker_and_time() -> None:
    """Fractions of the run's time, one row a worker."""
    drawn = timeline([stats(0, 10, 20, "a"), stats(1, 15, 30, "b")])
    assert drawn is not None
    assert (drawn.workers, drawn.seconds) == (("a", "b"), 20.0)
    assert [(bar.row, bar.start, bar.length) for bar in drawn.bars] == [(0, 0.0, 0.5), (1, 0.25, 0.75)]


def test_times_and_numbers_are_written_for_people() -> None:
    """Units that fit, thousands apart, the time zone said."""
    assert [duration(s) for s in (0.04, 9.5, 59.94, 61, 3600, 100_000)] == [
        "0.04 s",
        "9.50 s",
        "59.9 s",
        "1 min 01 s",
        "1 h 00 min",
        "27 h 46 min",
    ]
    assert grouped(1234567) == "1\u202f234\u202f567"
    assert clock("2026-11-23T11:30:59+02:00") == "2026-11-23 09:30 UTC"
    assert moment("2026-01-01T00:00:00Z") == moment("2026-01-01T01:00:00+01:00")
