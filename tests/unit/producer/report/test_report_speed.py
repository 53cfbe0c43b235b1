"""How fast a run was: by worker, over time, by stage, and how numbers are written."""

from __future__ import annotations

import pytest

from ddim_core.contracts.manifest import ChunkStats
from producer.report.facts import moment
from producer.report.plots import BINS, rate_plot, stage_plot
from producer.report.speed import timeline, worker_speeds
from producer.report.wording import clock, cut, duration, grouped, short


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


def test_nothing_done_has_no_speed_and_no_plot() -> None:
    """A report may be asked for before the first chunk."""
    assert worker_speeds([]) == []
    assert rate_plot([]) is None
    assert stage_plot([("a chunk", [])]) is None
    assert timeline([]) is None
    assert worker_speeds([stats(0, 5, 5, images=0)])[0].images_per_s is None


def test_images_are_spread_over_the_time_of_their_chunk() -> None:
    """Six images from 0 to 10 s and six from 5 to 10 s: 0.6 images/s, then 1.8, on an axis that ends at 2."""
    plot = rate_plot([stats(0, 0, 10), stats(1, 5, 10)])
    assert plot is not None
    assert plot.values == pytest.approx([0.3] * (BINS // 2) + [0.9] * (BINS // 2))
    assert [tick.label for tick in plot.rate_ticks] == ["0", "0.5", "1", "1.5", "2"]
    assert [(tick.place, tick.label) for tick in plot.time_ticks][:2] == [(0.0, "0"), (0.2, "2 s")]
    assert sum(plot.values) * 2 * plot.span_s == pytest.approx(12)  # no image is lost between bins


def test_a_chunk_without_length_counts_where_it_is() -> None:
    """Clocks have milliseconds; two equal times must not divide by zero or drop the images."""
    plot = rate_plot([stats(0, 0, 10, images=0), stats(1, 10, 10, images=3), stats(2, 3, 3, images=3)])
    assert plot is not None
    assert sum(value > 0 for value in plot.values) == 2


def test_long_runs_have_ticks_in_units_of_their_size() -> None:
    """Five ticks or so, whether a run takes seconds or days."""

    def labels(end: str) -> list[str]:
        chunk = stats(0, 0, 1).model_copy(update={"finished_at": end})
        plot = rate_plot([chunk])
        assert plot is not None
        return [tick.label for tick in plot.time_ticks]

    assert labels("2026-01-01T00:01:40Z") == ["0", "30 s", "60 s", "90 s"]
    assert labels("2026-01-01T00:04:00Z") == ["0", "1 min", "2 min", "3 min", "4 min"]
    assert labels("2026-01-01T03:00:00Z") == ["0", "1 h", "2 h", "3 h"]
    assert labels("2026-01-31T00:00:00Z") == ["0", "10 d", "20 d", "30 d"]
    assert labels("2026-01-01T00:00:00.500Z") == ["0", "0.50 s"]


def test_stages_are_placed_on_a_logarithmic_axis() -> None:
    """From the decade of the shortest to that of the longest; what took no time was not measured."""
    plot = stage_plot([("image", [1.0] * 9 + [0.0]), ("chunk", [10.0 * n for n in range(21)]), ("upload", [])])
    assert plot is not None
    assert [(tick.place, tick.label) for tick in plot.ticks] == [
        (0.0, "1 s"),
        (pytest.approx(1 / 3), "10 s"),
        (pytest.approx(2 / 3), "100 s"),
        (1.0, "1000 s"),
    ]
    image, chunk = plot.stages
    assert (image.name, image.median, image.places) == ("image", "1.00 s", (0.0,) * 5)
    assert (chunk.median, chunk.span) == ("1 min 45 s", "19.5 s to 3 min 10 s")
    assert list(chunk.places) == sorted(chunk.places)


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
    assert (short(7.5), short(2.0), short(0.1 + 0.2)) == ("7.5", "2", "0.3")
    assert (cut("abc", 3), cut("abcd", 3)) == ("abc", "abc…")
