"""Become another program that ends with its parent.

As ``python -m producer.local.die_with_parent PARENT_PID PROGRAM ARGUMENTS...``.

A program between, and not a hook after ``fork``, because a process with threads must not run Python there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def command(program: list[str]) -> list[str]:
    """Return the command that starts ``program`` as a child that gets SIGTERM when this process, or thread, ends."""
    return [sys.executable, "-m", "producer.local.die_with_parent", str(os.getpid()), *program]


def safe_path() -> dict[str, str]:
    """Return the variable that keeps ``-m`` from importing a person's own ``workers`` folder in place of ours.

    Left out in a checkout that is not installed, where ours is found in no other way. Python 3.10 does not know it.
    """
    return {} if Path(__file__).parents[2] == Path.cwd() else {"PYTHONSAFEPATH": "1"}


def _become(parent_pid: int, program: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:
            sys.exit(f"the parent, process {parent_pid}, ended before {program[0]} started")
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
