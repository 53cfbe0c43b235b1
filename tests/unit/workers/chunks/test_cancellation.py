"""Who is told that a run was cancelled or paused."""

from __future__ import annotations

from pathlib import Path

from ddim_core.errors import RunHaltedError
from ddim_core.storage.run_folder import RunFolder
from workers.chunks.cancellation import CancelWatch


def test_only_chunks_in_hand_of_halted_runs_are_stopped(tmp_path: Path) -> None:
    """All chunks of such a run, each with the reason, and none that has ended."""
    watch, stopped = CancelWatch(), list[str]()

    def stop(why: RunHaltedError) -> None:
        stopped.append(str(why))

    first, other = RunFolder(str(tmp_path / "a")), RunFolder(str(tmp_path / "b"))
    with watch.over(first, stop), watch.over(RunFolder(first.url), stop), watch.over(other, stop):
        watch.look()
        assert stopped == []
        first.pause()
        watch.look()
        assert stopped == ["the run was paused"] * 2
        first.cancel()
        watch.look()
        assert stopped[2:] == ["the run was cancelled"] * 2
    watch.look()
    assert len(stopped) == 4
