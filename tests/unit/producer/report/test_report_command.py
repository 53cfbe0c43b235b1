"""``ddim-fleet report``: where it writes, and what it says."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from producer.commands.report import command
from tests.unit.storage.runs import write_run


def test_the_command_prints_where_the_page_is(tmp_path: Path) -> None:
    """In the run's folder, or in the one that was asked for: a path that can be opened."""
    run = tmp_path / "run"
    write_run(str(run))
    for arguments, page in (([], run), (["--out", str(tmp_path / "out")], tmp_path / "out")):
        result = CliRunner().invoke(command, [str(run), *arguments])
        assert (result.exit_code, result.output) == (0, f"{page / 'report.html'}\n")
        assert (page / "report.html").exists()
