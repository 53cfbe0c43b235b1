"""Programs that run beside this one: started with a log, watched, stopped with all that they started."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ddim_core.errors import HostError, InputError
from producer.local import die_with_parent as tether

_PATIENCE_S = (10.0, 5.0)
"""After the first signal workers go on with what they hold, after the second they give it back: that costs no image."""


@dataclass(frozen=True, slots=True)
class Child:
    """A program that runs beside this one, for as long as it is needed."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Make sure that it is still there.

        Raises:
            HostError: It ended; says with which last words.
        """
        if (code := self.process.poll()) is not None:
            raise HostError(f"{self.name} ended with code {code}: {words_of(last_line(self.log))} (log: {self.log})")

    def complaint(self, beginning: str, code: int) -> HostError | InputError:
        """Return what ended it with an exit code: the last line of its log that begins so, or else the last line."""
        lines = self.log.read_text(errors="replace").splitlines()
        complaints = [line for line in lines if line.startswith(beginning)]
        if not complaints:
            return HostError(f"{self.name} ended with code {code}: {last_line(self.log)}")
        words = complaints[-1].removeprefix(beginning)
        return InputError(words) if code == InputError.exit_code else HostError(words)

    def say(self, words: bytes) -> None:
        """Give it all of its standard input; one that has ended already is found out by ``check``."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin:
            self.process.stdin.write(words)

    def stop(self) -> None:
        """End it and its session, gently first."""
        try:
            for patience_s in _PATIENCE_S:
                self.process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(patience_s)
                    break
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def running(
    name: str, command: list[str], log: Path, *, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """Run a program until the block ends. It has a session of its own, so that Ctrl-C reaches us, who then stop it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            tether.command(command),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **tether.safe_path(), **(environment or {})},
            start_new_session=True,
        )
    child = Child(name, process, log)
    try:
        child.say(stdin)
        yield child
    finally:
        child.stop()


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank, cut to 300 characters."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as exc:
        return f"no log: {exc}"
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "it said nothing")


def words_of(line: str) -> str:
    """Return the error that a line of a worker's log carries, or else the line."""
    error = re.search(r'\berror="(.+)"$', line)
    return error[1] if error else line
