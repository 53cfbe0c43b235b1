"""The command line as tests use it: within this process, because most of a command's time is Python's start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from producer.main import exit_code_of

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What a command came to."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class FleetCommand:
    """Runs ``ddim-fleet`` in ``folder``, which must be the current one."""

    folder: Path
    captured: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Done:
        """Run a command to its end."""
        self.captured.readouterr()
        code = exit_code_of(arguments)
        return Done(code, *self.captured.readouterr())

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file into the folder."""
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def names(self) -> list[str]:
        """Return what lies in the folder."""
        return sorted(path.name for path in self.folder.iterdir())


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start ``ddim-fleet`` in ``folder`` as a process of its own, without a terminal."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "producer", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509 - nothing runs in the child but this
    )


def _heed_interrupts() -> None:
    """Undo what a shell does to commands in the background: they ignore Ctrl-C, and so would what the tests start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
