"""The other side of a comparison in a process of its own, which works only when it is its turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks" / "peers"
TORCH_PYTHON = "DDIM_FLEET_BENCH_TORCH_PYTHON"
"""Names an interpreter that has torch and diffusers, where this one has not."""

READY = "ready"
DONE = "done"


def torch_python() -> str:
    """Return the interpreter of the PyTorch side."""
    return os.environ.get(TORCH_PYTHON, sys.executable)


class PeerError(Exception):
    """The other side ended before it was done."""


class Peer:
    """A module of ``benchmarks.peers`` that runs once for every line it reads."""

    def __init__(self, name: str, interpreter: str = sys.executable, *, scripts: Path = SCRIPTS, **told: Any) -> None:
        """Start ``NAME.py`` of a folder of scripts, tell it all that is ``told``, and wait until it is ready.

        Raises:
            PeerError: It ended instead; the message is what it said last.
        """
        self._process = subprocess.Popen(
            [interpreter, "-W", "ignore", str(scripts / f"{name}.py"), json.dumps(told, default=str)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._wait_for(READY)

    def run(self, prompts: Sequence[str]) -> None:
        """Have the other side make a batch of images, and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(list(prompts)) + "\n")
        self._process.stdin.flush()
        self._wait_for(DONE)

    def _wait_for(self, word: str) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():  # libraries print there too
            if line.strip() == word:
                return
        said = self._process.communicate()[1].strip().splitlines() or ["nothing"]
        raise PeerError(said[-1])

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes its input, at which it ends
