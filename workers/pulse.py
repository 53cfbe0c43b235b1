"""Signs of work from a worker process to its launcher, through a pipe: they need neither Redis nor the store."""

from __future__ import annotations

import contextlib
import os

WORKED, ON_TRIAL = b"w", b"t"
_READ_BYTES = 1 << 16


class Pulse:
    """The process's end of the pipe. It never waits, and outlives the launcher."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Write to ``descriptor``; None: to nobody, as in a process that was started by hand."""
        self._descriptor = descriptor
        if descriptor is not None:
            os.set_blocking(descriptor, False)

    def worked(self) -> None:
        """Say that an image was made."""
        self._say(WORKED)

    def on_trial(self) -> None:
        """Say that images go on the device which it may not survive."""
        self._say(ON_TRIAL)

    def _say(self, sign: bytes) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # full, or nobody is left to listen
                os.write(self._descriptor, sign)


class Listener:
    """The launcher's end of the pipe of one process."""

    def __init__(self) -> None:
        """Make the pipe."""
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)

    def begun(self) -> None:
        """Close the end that the process, which was started, has a copy of."""
        os.close(self.writer)

    def hear(self) -> bytes:
        """Return the signs since the last call, ``WORKED`` and ``ON_TRIAL``."""
        try:
            return os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._reader)
