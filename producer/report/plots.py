"""Geometry of the plots: points, bars and ticks in pixels of a drawing; the page's template draws them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from statistics import quantiles

from ddim_core.contracts.manifest import ChunkStats
from producer.report.facts import moment, span_s
from producer.report.wording import duration, short

BINS = 60
_INSTANT = 1e-6
"""Length in bins of a chunk that took no time by the clock; it lies within a bin, at the end of the run too."""
_TICK_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    place: float
    """Fraction of the axis, from its beginning."""
    label: str


@dataclass(frozen=True, slots=True)
class RatePlot:
    """Images per second over the time of a run."""

    values: tuple[float, ...]
    """Fraction of the vertical axis, one for each of as many equal spans of time."""
    time_ticks: tuple[Tick, ...]
    rate_ticks: tuple[Tick, ...]
    span_s: float
    """Seconds that one value stands for."""


@dataclass(frozen=True, slots=True)
class StageRange:
    """How long one stage took: quantiles as fractions of a logarithmic axis."""

    name: str
    median: str
    span: str
    """From the 5th to the 95th percentile, in words."""
    places: tuple[float, float, float, float, float]
    """The 5th, 25th, 50th, 75th and 95th percentile."""


@dataclass(frozen=True, slots=True)
class StagePlot:
    """How long the stages of a run took."""

    stages: tuple[StageRange, ...]
    ticks: tuple[Tick, ...]


def rate_plot(stats: Sequence[ChunkStats]) -> RatePlot | None:
    """Return images/s over time, each chunk's images spread evenly over its time; None where there are none."""
    seconds, images = span_s(stats), sum(each.images for each in stats)
    if not seconds or not images:
        return None
    begin = min(moment(each.started_at) for each in stats)
    span = seconds / BINS
    per_bin = [0.0] * BINS
    for each in stats:
        start = min((moment(each.started_at) - begin).total_seconds() / span, BINS - _INSTANT)
        end = max((moment(each.finished_at) - begin).total_seconds() / span, start + _INSTANT)
        for place in range(int(start), min(ceil(end), BINS)):
            overlap = min(end, place + 1) - max(start, place)
            per_bin[place] += each.images * overlap / (end - start)
    rates = [made / span for made in per_bin]
    step = _round_step(max(rates) / 4)
    top = step * ceil(max(rates) / step)
    ticks = tuple(Tick(n * step / top, short(n * step)) for n in range(round(top / step) + 1))
    return RatePlot(tuple(rate / top for rate in rates), _time_ticks(seconds), ticks, span)


def stage_plot(stages: Sequence[tuple[str, Sequence[float]]]) -> StagePlot | None:
    """Return the range of seconds of each named stage that was measured at all; None where none was."""
    measured = [(name, _percentiles(seconds)) for name, seconds in stages if any(each > 0 for each in seconds)]
    if not measured:
        return None
    low = floor(log10(min(values[0] for _, values in measured)))
    high = max(ceil(log10(max(values[-1] for _, values in measured))), low + 1)

    def place(seconds: float) -> float:
        return (log10(seconds) - low) / (high - low)

    ranges = []
    for name, values in measured:
        p5, p25, p50, p75, p95 = map(place, values)
        span = f"{duration(values[0])} to {duration(values[-1])}"
        ranges.append(StageRange(name, duration(values[2]), span, (p5, p25, p50, p75, p95)))
    ticks = tuple(Tick(place(10.0**power), f"{short(10.0**power)} s") for power in range(low, high + 1))
    return StagePlot(tuple(ranges), ticks)


def _percentiles(seconds: Sequence[float]) -> tuple[float, float, float, float, float]:
    positive = [each for each in seconds if each > 0]
    if len(positive) == 1:
        return (positive[0],) * 5
    cuts = quantiles(positive, n=20, method="inclusive")
    return cuts[0], cuts[4], cuts[9], cuts[14], cuts[18]


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is no less."""
    power = 10.0 ** floor(log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _time_ticks(seconds: float) -> tuple[Tick, ...]:
    """Return about five ticks, all in the unit of the axis: ``30 s, 60 s, 90 s``."""
    if seconds < 1:
        return (Tick(0.0, "0"), Tick(1.0, duration(seconds)))
    step = next((each for each in _TICK_SECONDS if seconds / each <= 5), None)
    step = step or 86400 * int(_round_step(seconds / 5 / 86400))
    unit, name = next((each for each in _UNITS if seconds >= 2 * each[0]), _UNITS[-1])
    times = range(step, int(seconds) + 1, step)
    return (Tick(0.0, "0"), *(Tick(time / seconds, f"{short(time / unit)} {name}") for time in times))
