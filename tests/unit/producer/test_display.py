"""What a person sees of a run, with and without a terminal."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from rich.console import Console

from ddim_core.errors import StorageError
from producer import display
from producer.display import exit_code, follow, status_table, summary
from producer.runs import progress
from producer.runs.progress import RunStatus
from producer.words import counted, duration, shown

QUEUED = RunStatus(
    run_url="file:///data/run",
    run_id="r",
    state="queued",
    images_total=10,
    images_made=0,
    images_failed=0,
    chunks_total=3,
    chunks_done=0,
    workers=0,
    workers_starting=0,
    images_per_s=None,
    eta_s=None,
)
STARTING = replace(QUEUED, workers=2, workers_starting=2)
RUNNING = replace(QUEUED, state="running", workers=2, images_made=4, images_failed=1, images_per_s=0.5, eta_s=75.0)
FINISHED = replace(RUNNING, state="finished", images_made=9, chunks_done=3, eta_s=None)


def lines_of(*statuses: RunStatus) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=False)
    readings = iter(statuses)
    assert follow(lambda: next(readings), console, poll_s=0.0) == statuses[-1]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_without_a_terminal_progress_is_lines() -> None:
    """Each phase shows once; within one, a line comes only every few seconds."""
    assert lines_of(QUEUED, STARTING, STARTING, RUNNING, replace(RUNNING, images_made=5), FINISHED) == [
        "queued, no worker yet: 0/10 images",
        "starting: compiling on 2 devices: 0/10 images",
        "running: 5/10 images, 1 failed, 0.50 images/s, 1:15 left",
        "finished: 10/10 images, 1 failed, 0.50 images/s",
    ]


def test_a_store_that_fails_for_a_moment_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers go on, and so does whoever follows them; but not for ever."""
    readings: Iterator[RunStatus | None] = iter([RUNNING, None, None, FINISHED])

    def read() -> RunStatus:
        status = next(readings)
        if status is None:
            raise StorageError("the store is away")
        return status

    console = Console(file=io.StringIO())
    assert follow(read, console, poll_s=0.0) == FINISHED
    readings = itertools.repeat(None)
    monkeypatch.setattr(progress, "STORE_PATIENCE_S", 0.05)
    with pytest.raises(StorageError, match=r"^the store is away$"):
        follow(read, console, poll_s=0.0)


def test_a_trouble_is_told_once_and_again_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the lines of progress, and not once a second; the producer's own trouble with the store, too."""
    now = 100.0

    def monotonic() -> float:
        nonlocal now
        now += 3.0  # three readings of the clock a poll at most, so that ten seconds pass every other poll or later
        return now

    monkeypatch.setattr(display.time, "monotonic", monotonic)
    waiting = replace(RUNNING, trouble="worker sim:0 on h: the disk is full; waiting")
    readings = iter([waiting, waiting, waiting, waiting, RUNNING, waiting, waiting, None, None, None, FINISHED])

    def read() -> RunStatus:
        if (status := next(readings)) is None:
            raise StorageError("could not read s3://b/run/run.json: 403")
        return status

    console = Console(file=io.StringIO(), width=40)
    follow(read, console, poll_s=0.0)
    assert isinstance(console.file, io.StringIO)
    lines = [line for line in console.file.getvalue().splitlines() if line.endswith("waiting")]
    assert lines == [waiting.trouble, waiting.trouble, "could not read s3://b/run/run.json: 403; waiting"]


def test_images_that_are_made_again_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes a minute in which nothing else is said; without a terminal a line comes every ten seconds."""
    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    lines = Console(file=io.StringIO(), force_terminal=False)
    with display.counting(3, lines) as tell:
        for at, made in ((100.0, 0), (101.0, 0), (105.0, 1), (111.0, 2), (112.0, 3)):
            now[0] = at
            tell(made)
    assert isinstance(lines.file, io.StringIO)
    assert lines.file.getvalue().splitlines() == [
        "loading and compiling, before the first image",
        "made again: 2 of 3 images",
    ]
    bar = Console(file=io.StringIO(), force_terminal=True, width=80)
    with display.counting(1, bar) as tell:
        tell(1)
    assert isinstance(bar.file, io.StringIO)
    assert "made again: 1 of 1 image" in bar.file.getvalue()


def test_that_workers_compile_is_said_in_place_of_the_time_left() -> None:
    """A figure would be that of a minute in which half of them make nothing."""
    half = replace(RUNNING, workers_starting=1, eta_s=None)
    assert lines_of(half, FINISHED)[0] == ("running: 5/10 images, 1 failed, 0.50 images/s, compiling on 1 of 2 devices")
    assert "time left  known when they have compiled" in status_table(half).splitlines()
    assert "time left  1:15" in status_table(RUNNING).splitlines()


def test_a_status_says_what_the_run_waits_for() -> None:
    """Without trouble there is no such line."""
    assert "trouble    worker x: y; waiting" in status_table(replace(RUNNING, trouble="worker x: y; waiting"))
    assert "trouble" not in status_table(RUNNING)


def test_in_a_terminal_progress_is_a_bar() -> None:
    """The last picture of it says all."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    readings = iter([STARTING, RUNNING, FINISHED])
    follow(lambda: next(readings), console, poll_s=0.0)
    assert isinstance(console.file, io.StringIO)
    last = console.file.getvalue().splitlines()[-2:]
    assert any("finished" in line and "10/10 images, 1 failed" in line for line in last)


def test_the_table_says_what_is_unknown() -> None:
    """Without Redis nobody knows the workers, and a run that is over has none."""
    assert status_table(replace(RUNNING, workers=None, images_per_s=None, eta_s=None)).splitlines() == [
        "run        file:///data/run",
        "state      running",
        "images     4 of 10",
        "failed     1",
        "chunks     0 of 3",
        "workers    unknown (Redis does not answer)",
        "speed      -",
        "time left  -",
    ]
    assert "workers    2, 1 of them loading or compiling" in status_table(replace(STARTING, workers_starting=1))
    assert "workers    -" in status_table(FINISHED).splitlines()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (replace(FINISHED, images_failed=0), 0),
        (FINISHED, 3),
        (replace(RUNNING, state="cancelled", images_failed=0), 2),
        (replace(FINISHED, images_made=0, images_failed=10), 3),
    ],
)
def test_the_exit_code_says_how_a_run_ended(status: RunStatus, expected: int) -> None:
    """A script must see failed requests without reading text."""
    assert exit_code(status) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_a_duration_reads_like_a_clock(seconds: float, expected: str) -> None:
    """Hours only where there are any."""
    assert duration(seconds) == expected


def test_words_for_people() -> None:
    """One image is not *1 images*, and a path can be opened."""
    assert (counted(1, "image"), counted(0, "image")) == ("1 image", "0 images")
    assert shown("file:///a%20b/c") == "/a b/c"
    assert shown("s3://bucket/c") == "s3://bucket/c"
    assert summary(replace(FINISHED, images_made=1)) == "finished: 1 image made, 1 failed, 0.50 images/s"
