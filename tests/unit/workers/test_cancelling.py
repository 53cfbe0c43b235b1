"""Who is told that a run was cancelled."""

from __future__ import annotations

from pathlib import Path

from ddim_core.storage.run_folder import RunFolder
from workers.cancelling import CancelWatch


def test_only_chunks_in_hand_of_cancelled_runs_are_stopped(tmp_path: Path) -> None:
    """All chunks of such a run, and none that has ended."""
    watch, stopped = CancelWatch(), list[str]()
    cancelled, other = RunFolder(str(tmp_path / "a")), RunFolder(str(tmp_path / "b"))
    with (
        watch.over(cancelled, lambda: stopped.append("first")),
        watch.over(RunFolder(cancelled.url), lambda: stopped.append("second")),
        watch.over(other, lambda: stopped.append("other")),
    ):
        watch.look()
        assert stopped == []
        cancelled.cancel()
        watch.look()
        assert stopped == ["first", "second"]
    watch.look()
    assert stopped == ["first", "second"]
