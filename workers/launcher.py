"""The supervisor of a host's workers: one process a device, started again when it dies, drained when asked to stop."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ddim_core.errors import HostError, InputError
from workers.board import Board
from workers.lease import release_all
from workers.settings import EXIT_NO_HOST, EXIT_OK, EXIT_UNUSABLE, WorkerSettings

log = logging.getLogger(__name__)

MIN_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
STABLE_S = 120.0
"""A process that lived this long is started again without delay: what killed it is no fault of its start."""
POLL_S = 0.2
_STOPPING = {
    signal.SIGTERM: "the workers finish the chunks in hand; a second signal stops them at once",
    signal.SIGKILL: "the workers are stopped at once; others take their chunks over",
}
UNUSABLE = {EXIT_UNUSABLE: InputError.exit_code, EXIT_NO_HOST: HostError.exit_code}
"""Ends of a worker process that no restart would mend, with what the command then ends with."""


@dataclass(slots=True)
class Child:
    """A worker process and when it may be started again."""

    settings: WorkerSettings
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_s: float = MIN_PAUSE_S
    start_at: float = 0.0
    unusable: int = EXIT_OK
    """What the command ends with on account of this child, if no restart would mend it."""

    def start(self) -> None:
        """Start the process. It is no fork of this one: MindSpore does not survive that."""
        settings = self.settings.model_copy(update={"parent_pid": os.getpid()})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workers.process"],
            stdin=subprocess.PIPE,
            env={**os.environ, **settings.device.environment},
            start_new_session=True,  # Ctrl-C reaches the launcher alone, which drains the others
        )
        self.started_at = time.monotonic()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(settings.model_dump_json().encode())
            self.process.stdin.close()
        except BrokenPipeError:
            log.error("a worker process died at its start", extra={"action": "worker_died"})

    def exit_code(self) -> int | None:
        """Return how the process ended, negative for a signal; None while it runs or where there is none."""
        return None if self.process is None else self.process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if there is anyone to get it."""
        if self.process is not None:
            self.process.send_signal(number)


@dataclass(slots=True)
class Launcher:
    """Keeps the worker processes of this host running until a signal ends it."""

    children: list[Child]
    board: Board
    _signals: int = 0
    _wake: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def of(cls, settings: Sequence[WorkerSettings], board: Board) -> Launcher:
        """Return the launcher of these processes, which use the Redis of ``board``."""
        return cls([Child(one) for one in settings], board)

    def run(self) -> int:
        """Supervise until every process has ended for good; return the exit code of the command.

        The first SIGTERM, SIGINT or SIGHUP drains: chunks in hand are finished, no new ones taken. The second kills.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        while self._tend():
            self._wake.wait(POLL_S)
            self._wake.clear()
        return max(child.unusable for child in self.children)

    def _on_signal(self, number: int, _: object) -> None:
        self._signals += 1
        stop = self._stop_signal()
        log.info(_STOPPING[stop], extra={"action": "stopping", "signal": number, "sent": stop.name})
        for child in self.children:
            child.send(stop)
        self._wake.set()

    def _tend(self) -> bool:
        """Look after each child once; return whether there is anything left to look after."""
        return sum(self._tend_one(child) for child in self.children) > 0

    def _tend_one(self, child: Child) -> bool:
        if child.process is None:
            return self._start_when_due(child)
        exit_code = child.exit_code()
        if exit_code is None:
            return True
        release_all(self.board, child.settings.device.worker_id(child.process.pid))
        child.process = None
        return not self._signals and self._ended(child, exit_code)

    def _start_when_due(self, child: Child) -> bool:
        if self._signals or child.unusable:
            return False
        if time.monotonic() >= child.start_at:
            self._start(child)
        return True

    def _start(self, child: Child) -> None:
        child.start()
        if self._signals:  # one came while there was no process yet to pass it on to
            child.send(self._stop_signal())

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGTERM if self._signals == 1 else signal.SIGKILL

    def _ended(self, child: Child, exit_code: int) -> bool:
        """Decide when the child starts again; return whether it will."""
        child.unusable = UNUSABLE.get(exit_code, EXIT_OK)
        if child.unusable:
            return False
        if time.monotonic() - child.started_at >= STABLE_S:
            child.pause_s = MIN_PAUSE_S
        child.start_at = time.monotonic() + child.pause_s
        log.warning(
            "a worker process died and will be started again",
            extra={
                "action": "worker_died",
                "device": child.settings.device.label,
                "exit_code": exit_code,
                "pause_s": child.pause_s,
            },
        )
        child.pause_s = min(2 * child.pause_s, MAX_PAUSE_S)
        return True
