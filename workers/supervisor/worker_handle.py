"""One worker process as its launcher sees it: started, listened to, asked to end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

from workers.pulse import ON_TRIAL, WORKED, Listener
from workers.settings import EXIT_OK, GIVE_BACK_S, GIVE_BACK_SIGNAL, WorkerSettings
from workers.supervisor.restarts import Restarts

log = logging.getLogger(__name__)

FINISH, GIVE_BACK, KILL = 1, 2, 3
"""How urgently a process is asked to end: after what it has in hand; after giving that back; at once."""
_SIGNALS = {FINISH: signal.SIGTERM, GIVE_BACK: GIVE_BACK_SIGNAL, KILL: signal.SIGKILL}
_LENIENCE_S = 10.0
"""Beyond the time a process has for its orderly end, before it is killed."""


@dataclass(slots=True)
class Child:
    """A device's worker process, and when another may be started."""

    settings: WorkerSettings
    restarts: Restarts = field(default_factory=Restarts)
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    worked: bool = False
    """Whether this process has made an image."""
    tried: bool = False
    """Whether it has put images on trial, which it may not survive."""
    last_end: str = ""
    """How the process before it ended."""
    unusable: int = EXIT_OK
    """What the command ends with on account of this child, if no restart would mend it."""
    urgency: int = 0
    """With which the process was asked to end; 0: it was not."""
    _kill_at: float = float("inf")
    _listener: Listener | None = None

    @property
    def label(self) -> str:
        """The device as people name it."""
        return self.settings.device.label

    def start(self) -> None:
        """Start the process. It is no fork of this one: MindSpore does not survive that."""
        self._listener = Listener()
        told = {"parent_pid": os.getpid(), "pulse_descriptor": self._listener.writer}
        settings = self.settings.model_copy(update=told)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers.process.main"],
            stdin=subprocess.PIPE,
            env={**os.environ, **settings.device.environment},
            pass_fds=(self._listener.writer,),
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which drains the others
        )
        self._listener.begun()
        self.started_at = time.monotonic()
        self.worked = self.tried = False
        self.urgency, self._kill_at = 0, float("inf")
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(settings.model_dump_json().encode())
            self.process.stdin.close()
        except BrokenPipeError:
            log.error("a worker process died at its start", extra={"action": "worker_died"})

    def listen(self) -> None:
        """Take in its signs of work."""
        if self._listener is not None:
            signs = self._listener.hear()
            self.worked |= WORKED in signs
            self.tried |= ON_TRIAL in signs

    def exit_code(self) -> int | None:
        """Return how the process ended, negative for a signal; None while it runs or where there is none."""
        return None if self.process is None else self.process.poll()

    def ask_to_end(self, urgency: int) -> None:
        """Ask the process to end, each time more urgently; kill it if it takes longer than it has."""
        while self.urgency < urgency:
            self.urgency += 1
            self.send(_SIGNALS[self.urgency])
            time_s = self.settings.drain_timeout_s if self.urgency == FINISH else 0.0
            self._kill_at = time.monotonic() + time_s + GIVE_BACK_S + _LENIENCE_S
        if time.monotonic() > self._kill_at and self.urgency < KILL:
            self.ask_to_end(KILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if there is anyone to get it."""
        if self.process is not None:
            self.process.send_signal(number)

    def ended(self, exit_code: int) -> None:
        """Forget the process, which ended so."""
        self.listen()
        if self._listener is not None:
            self._listener.close()
        self.process = self._listener = None
        self.last_end = f"killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
