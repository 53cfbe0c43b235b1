"""What benchmarks print: a figure that misses its target must not read as one that keeps it."""

from __future__ import annotations

import pytest

from benchmarks.figures import ROW, Target, at_least, at_most, left_out, report


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        (at_least(1.2), 1.2, ">= 1.2: met"),
        (at_least(1.2), 1.19, ">= 1.2: MISSED"),
        (at_most(0), 0, "<= 0: met"),
        (at_most(0), 1, "<= 0: MISSED"),
        (at_most(0), float("nan"), "<= 0: MISSED"),
        (None, 3, "no target"),
    ],
)
def test_a_figure_says_whether_it_keeps_its_target(
    capsys: pytest.CaptureFixture[str], target: Target | None, value: float, verdict: str
) -> None:
    """Once for the reader and once in the row for the documentation."""
    report("images/s", value, target, because="a over b")
    line, row = capsys.readouterr().out.splitlines()
    assert line == f"  images/s: {value:.3g} ({verdict}); a over b"
    assert row == f"{ROW}images/s | {value:.3g} | {verdict} | a over b |"


def test_large_figures_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody reads 1.26e+03 bytes at a glance."""
    report("bytes", 1263.4)
    assert capsys.readouterr().out.startswith("  bytes: 1,263 (no target)")


def test_what_was_not_measured_is_a_row_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A figure that silently vanishes would pass for one that was never promised."""
    left_out("images/s over PyTorch", "No module named 'torch'")
    assert capsys.readouterr().out.splitlines()[1] == "| images/s over PyTorch | left out | | No module named 'torch' |"
