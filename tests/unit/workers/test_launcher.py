"""The supervisor's decisions about its children, with shell commands in the place of workers."""

from __future__ import annotations

import io
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddim_core.errors import CheckpointError, HostError, InputError
from workers import launcher, process
from workers.__main__ import main
from workers.board import Board
from workers.launcher import MIN_PAUSE_S, Child, Launcher
from workers.settings import EXIT_FAILED, EXIT_NO_HOST, EXIT_OK, EXIT_UNUSABLE, Device, WorkerSettings

AWAY = Board("redis://127.0.0.1:1/0")
ROOT = Path(__file__).parents[3]


def child(index: int = 0) -> Child:
    """Return a child that was not started yet."""
    device = Device(kind="sim", index=index)
    return Child(WorkerSettings(device=device, broker_url="redis://127.0.0.1:1/0"))


def ended(one: Child, exit_code: int, lived_s: float = 0.0) -> None:
    """Give the child a process that ended so."""
    one.process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({exit_code})"])
    one.process.wait()
    one.started_at = time.monotonic() - lived_s


def test_a_child_that_keeps_dying_is_started_ever_more_slowly() -> None:
    """From a second to a minute; a broken device must not keep a host busy with restarts."""
    one = child()
    supervisor = Launcher([one], AWAY)
    pauses = []
    for _ in range(8):
        ended(one, EXIT_FAILED)
        supervisor._tend()
        pauses.append(round(one.start_at - time.monotonic()))
        assert one.process is None
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_child_that_lived_long_is_started_at_once_again() -> None:
    """Its death says nothing about its start."""
    one = child()
    one.pause_s = 60
    ended(one, EXIT_FAILED, lived_s=launcher.STABLE_S + 1)
    Launcher([one], AWAY)._tend()
    assert one.start_at - time.monotonic() <= MIN_PAUSE_S


@pytest.mark.parametrize(("ends", "exit_code"), [([EXIT_UNUSABLE], 1), ([EXIT_NO_HOST], 2), ([1, EXIT_NO_HOST], 2)])
def test_a_child_that_cannot_run_here_is_not_started_again(ends: list[int], exit_code: int) -> None:
    """Without MindSpore, or with a damaged checkpoint, no restart helps; the command ends with the error's own code."""
    children = [child(index) for index in range(len(ends))]
    for one, end in zip(children, ends, strict=True):
        ended(one, end)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        assert Launcher(children, AWAY).run() == exit_code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert all(one.process is None for one in children)


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [(HostError("no driver"), EXIT_NO_HOST), (CheckpointError("damaged"), EXIT_UNUSABLE), (OSError(5), EXIT_FAILED)],
)
def test_a_worker_process_says_by_its_end_whether_a_restart_may_help(
    monkeypatch: pytest.MonkeyPatch, error: Exception, exit_code: int
) -> None:
    """The launcher hears nothing else of it."""

    def fail(settings: WorkerSettings) -> None:
        raise error

    monkeypatch.setattr(process, "WorkerProcess", fail)
    monkeypatch.setattr(process, "set_up_logging", lambda *_: None)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(child().settings.model_dump_json().encode())))
    assert process.main() == exit_code


@pytest.mark.parametrize("arguments", [[], ["--debug"]])
def test_what_nobody_foresaw_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """With a traceback only for those who ask for it."""

    def fail(_: str) -> None:
        raise RuntimeError("the probe broke")

    monkeypatch.setattr("workers.__main__.choose_devices", fail)
    monkeypatch.setattr("workers.__main__.set_up_logging", lambda *_: None)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].endswith("RuntimeError: the probe broke")
    assert ("Traceback" in error) == bool(arguments) == (len(error.splitlines()) > 1)


def test_after_a_signal_nothing_is_started() -> None:
    """A child that dies while draining has done so for good."""
    one = child()
    supervisor = Launcher([one], AWAY)
    ended(one, EXIT_FAILED)
    supervisor._on_signal(signal.SIGTERM, None)
    assert not supervisor._tend()


def test_each_signal_says_what_it_does(caplog: pytest.LogCaptureFixture) -> None:
    """Finishing what is in hand may take minutes: whoever waits at the keyboard is told how not to."""
    supervisor = Launcher([child()], AWAY)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            supervisor._on_signal(signal.SIGINT, None)
    assert caplog.messages == [
        "the workers finish the chunks in hand; a second signal stops them at once",
        "the workers are stopped at once; others take their chunks over",
    ]


def test_a_signal_that_comes_while_a_child_is_started_reaches_it() -> None:
    """Its handler found no process to pass it on to."""
    sent: list[signal.Signals] = []

    class Starting(Child):
        def start(self) -> None:
            supervisor._on_signal(signal.SIGTERM, None)
            sent.clear()

        def send(self, number: signal.Signals) -> None:
            sent.append(number)

    supervisor = Launcher([Starting(child().settings)], AWAY)
    supervisor._tend()
    assert sent == [signal.SIGTERM]


def test_the_first_signal_drains_and_the_second_kills() -> None:
    """To each child, in that order."""
    sent: list[signal.Signals] = []

    class Listening(Child):
        def send(self, number: signal.Signals) -> None:
            sent.append(number)

    supervisor = Launcher([Listening(child().settings), Listening(child(1).settings)], AWAY)
    supervisor._on_signal(signal.SIGINT, None)
    supervisor._on_signal(signal.SIGINT, None)
    assert sent == [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL, signal.SIGKILL]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "line"),
    [
        (["--devices", "gpu:1"], 1, "--devices must be one of auto, npu"),
        (["--broker", "amqp://localhost"], 1, "the broker must be a redis:// URL, got amqp://localhost"),
        (["--broker", "sentinel://h:26379"], 1, "the broker must be a redis:// URL, got sentinel://h:26379"),
        (["--slots", "0"], 1, "0 is not in the range"),
        (["surprise"], 1, "No such command"),
    ],
)
def test_an_unusable_argument_is_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], exit_code: int, line: str
) -> None:
    """No traceback, and no process started."""
    assert main(arguments) == exit_code
    error = capsys.readouterr().err
    assert line in error and "Traceback" not in error


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """For those who mend the program."""
    assert main(["--debug", "--devices", "gpu:1"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_broker_that_is_none_is_refused_without_its_password() -> None:
    """Errors end up in logs."""
    with pytest.raises(InputError) as caught:
        Board("amqp://user:secret@host/0")
    assert "secret" not in str(caught.value)


def test_a_worker_process_without_settings_ends_as_unusable() -> None:
    """It was started by hand; no restart would help."""
    done = subprocess.run(
        [sys.executable, "-m", "workers.process"], input=b"{}", capture_output=True, check=False, timeout=60, cwd=ROOT
    )
    assert done.returncode == EXIT_UNUSABLE != EXIT_OK
    assert b"settings on standard input" in done.stderr
