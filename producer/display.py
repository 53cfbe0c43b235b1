"""How a run's progress looks: a live bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ddim_core.errors import StorageError
from producer.runs.progress import RunStatus, patient
from producer.words import counted, duration

Draw = Callable[[RunStatus], None]

POLL_S = 1.0
_LINE_EVERY_S = 10.0
FAILED_REQUESTS = 3
CANCELLED = 2


def status_table(status: RunStatus) -> str:
    """Return the status as a short table."""
    rows = {
        "run": status.run_url,
        "state": status.state,
        "images": f"{status.images_made} of {status.images_total}",
        "failed": str(status.images_failed),
        **({"cut": f"{counted(status.images_cut, 'image')} of a prompt that is cut"} if status.images_cut else {}),
        "chunks": f"{status.chunks_done} of {status.chunks_total}",
        "workers": _workers(status),
        "speed": "-" if status.images_per_s is None else f"{status.images_per_s:.2f} images/s",
        "time left": _time_left(status),
    }
    if status.trouble:
        rows["trouble"] = status.trouble
    return "\n".join(f"{name:<10} {value}" for name, value in rows.items())


def summary(status: RunStatus) -> str:
    """Return in one line what a run that is over came to."""
    speed = "" if status.images_per_s is None else f", {status.images_per_s:.2f} images/s"
    cut = f", {status.images_cut} of prompts that were cut" if status.images_cut else ""
    return f"{status.state}: {counted(status.images_made, 'image')} made{cut}, {status.images_failed} failed{speed}"


def exit_code(status: RunStatus) -> int:
    """Return the command line's exit code for a run that is over."""
    if status.state == "cancelled":
        return CANCELLED
    return FAILED_REQUESTS if status.images_failed else 0


def follow(read: Callable[[], RunStatus], console: Console | None = None, poll_s: float = POLL_S) -> RunStatus:
    """Show progress, on standard error unless a console is given, until the run is over; return its last status.

    Raises:
        StorageError: The store has failed for too long; a shorter failure is waited out.
    """
    console = console or Console(stderr=True)
    show = _live if console.is_terminal else _in_lines
    read_patiently, tell = patient(read), _teller(console)
    with show(console) as draw:
        while True:
            if isinstance(status := read_patiently(), StorageError):
                tell(f"{status}; waiting")
            else:
                tell(status.trouble)
                draw(status)
                if status.is_over:
                    return status
            time.sleep(poll_s)


def _teller(console: Console) -> Callable[[str], None]:
    """Return what prints a trouble when it comes or changes, above the bar where there is one, and not each second."""
    told, told_at = "", -math.inf

    def tell(trouble: str) -> None:
        nonlocal told, told_at
        now = time.monotonic()
        if trouble and trouble != told and now - told_at >= _LINE_EVERY_S:
            console.print(trouble, highlight=False, markup=False, soft_wrap=True)
            told, told_at = trouble, now
        elif not trouble:
            told = ""

    return tell


@contextmanager
def counting(total: int, console: Console | None = None) -> Iterator[Callable[[int], None]]:
    """Show how many of ``total`` images were made again: yield what is to be told the number, again and again."""
    console = console or Console(stderr=True)
    if console.is_terminal:
        with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bar:
            task = bar.add_task("", total=total)
            yield lambda made: bar.update(task, completed=made, description=_made_again(made, total))
    else:
        tell = _teller(console)
        yield lambda made: tell(_made_again(made, total))


def _made_again(made: int, total: int) -> str:
    return (
        f"made again: {made} of {counted(total, 'image')}" if made else "loading and compiling, before the first image"
    )


@contextmanager
def _live(console: Console) -> Iterator[Draw]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("waiting", total=None, figures="")
        yield lambda status: bar.update(
            task,
            description=_phase(status),
            total=status.images_total,
            completed=status.images_made + status.images_failed,
            figures=_figures(status),
        )


@contextmanager
def _in_lines(console: Console) -> Iterator[Draw]:
    shown_phase, shown_at = "", 0.0

    def draw(status: RunStatus) -> None:
        nonlocal shown_phase, shown_at
        phase, now = _phase(status), time.monotonic()
        if phase != shown_phase or now - shown_at >= _LINE_EVERY_S:
            console.print(f"{phase}: {_figures(status)}", highlight=False, markup=False, soft_wrap=True)
            shown_phase, shown_at = phase, now

    yield draw


def _phase(status: RunStatus) -> str:
    if status.is_over or status.state == "paused" or status.images_made + status.images_failed:
        return status.state
    if status.workers == 0:
        return "queued, no worker yet"
    if status.workers_starting and status.workers_starting == status.workers:
        return f"starting: compiling on {counted(status.workers, 'device')}"
    return status.state


def _workers(status: RunStatus) -> str:
    if status.is_over:
        return "-"
    if status.workers is None:
        return "unknown (Redis does not answer)"
    starting = f", {status.workers_starting} of them loading or compiling" if status.workers_starting else ""
    return f"{status.workers}{starting}"


def _time_left(status: RunStatus) -> str:
    if status.eta_s is not None:
        return duration(status.eta_s)
    return "known when they have compiled" if status.state == "running" and status.workers_starting else "-"


def _figures(status: RunStatus) -> str:
    parts = [f"{status.images_made + status.images_failed}/{status.images_total} images"]
    if status.images_failed:
        parts.append(f"{status.images_failed} failed")
    if status.images_per_s is not None:
        parts.append(f"{status.images_per_s:.2f} images/s")
    if status.eta_s is not None:
        parts.append(f"{duration(status.eta_s)} left")
    if status.state == "running" and status.workers_starting:
        parts.append(f"compiling on {status.workers_starting} of {counted(status.workers or 0, 'device')}")
    return ", ".join(parts)
