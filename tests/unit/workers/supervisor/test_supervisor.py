"""The supervisor's decisions about its children, with shell commands in the place of workers."""

from __future__ import annotations

import io
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddim_core.contracts.hosts import Cordon, checked_host
from ddim_core.errors import CheckpointError, HostError, InputError
from workers.__main__ import main
from workers.coordination.connection import Board
from workers.process import main as process
from workers.settings import (
    DRAIN_TIMEOUT_S,
    EXIT_FAILED,
    EXIT_NO_HOST,
    EXIT_OK,
    EXIT_UNUSABLE,
    GIVE_BACK_SIGNAL,
    Device,
    WorkerSettings,
)
from workers.supervisor.health import HealthWatch
from workers.supervisor.restarts import MAX_DEATHS
from workers.supervisor.supervisor import Launcher
from workers.supervisor.worker_handle import FINISH, GIVE_BACK, KILL, Child

HOST = socket.gethostname()
AWAY = Board("redis://127.0.0.1:1/0")
ROOT = Path(__file__).parents[4]


def child(index: int = 0) -> Child:
    """Return a child that was not started yet."""
    device = Device(kind="sim", index=index)
    return Child(WorkerSettings(device=device, broker_url="redis://127.0.0.1:1/0"))


def ended(one: Child, exit_code: int, lived_s: float = 0.0) -> None:
    """Give the child a process that ended so."""
    one.process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({exit_code})"])
    one.process.wait()
    one.started_at = time.monotonic() - lived_s


class Noting(Child):
    """A child that only notes that it was started."""

    __slots__ = ("starts",)

    def start(self) -> None:
        """Count."""
        self.starts = getattr(self, "starts", 0) + 1


class Listening(Child):
    """A child whose process runs on and gets no signals; it notes them."""

    __slots__ = ("sent",)

    def start(self) -> None:
        """Start it."""
        self.sent: list[signal.Signals] = []
        self.process = subprocess.Popen(["sleep", "60"])

    def send(self, number: signal.Signals) -> None:
        """Note it."""
        self.sent.append(number)


@pytest.fixture
def listening() -> Iterator[Listening]:
    """Give such a child, started."""
    one = Listening(child().settings)
    one.start()
    yield one
    assert one.process is not None
    one.process.kill()
    one.process.wait()


def test_a_child_that_keeps_dying_is_started_ever_more_slowly_and_then_given_up() -> None:
    """A broken device must not keep a host busy with restarts, and must be named to whoever can mend it."""
    one = child()
    supervisor = Launcher([one], AWAY)
    pauses = []
    for _ in range(MAX_DEATHS):
        ended(one, EXIT_FAILED)
        assert supervisor._tend()
        pauses.append(round(one.start_at - time.monotonic()))
        assert one.process is None
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    (device,) = supervisor.report().devices
    assert (device.state, device.deaths) == ("out of service", MAX_DEATHS)
    assert device.reason == f"its process died {MAX_DEATHS} times without an image, last: exit code 2"


def test_a_device_is_starting_until_it_has_a_process() -> None:
    """Who looks in that moment must not take it for one that was given up."""
    supervisor = Launcher([child()], AWAY)
    assert [one.state for one in supervisor.report().devices] == ["starting"]


def test_a_device_that_was_given_up_is_not_started_until_its_mark_is_gone() -> None:
    """Then it begins without a history."""
    one = Noting(child().settings)
    supervisor = Launcher([one], AWAY)
    one.restarts.deaths = MAX_DEATHS - 1
    ended(one, EXIT_FAILED)
    for _ in range(3):
        assert supervisor._tend()
    assert not hasattr(one, "starts")
    supervisor.cordons._unsent.clear()
    supervisor._tend()
    assert (one.starts, one.restarts.deaths) == (1, 0)


def test_an_npu_that_is_not_healthy_is_drained(listening: Listening) -> None:
    """What it has in hand is finished first, if it can be; one that was left out from the start is named."""
    health = HealthWatch(lambda: {"sim:0": "Critical", "npu:7": "Alarm"})
    supervisor = Launcher([listening], AWAY, health)
    for sent in ([], [signal.SIGTERM]):
        health.look()
        assert supervisor._tend()
        assert listening.sent == sent
    device, other = supervisor.report().devices
    assert (device.state, device.reason) == ("draining", "npu-smi says that it is Critical")
    reason = "npu-smi says that it is Alarm; start the supervisor again after the repair"
    assert (other.device, other.state, other.reason) == ("npu:7", "out of service", reason)
    supervisor.cordons._unsent.clear()  # somebody puts it back: only two new looks take it out again
    supervisor._tend()
    assert supervisor.cordons.of_device("sim:0") is None


def test_a_host_that_is_drained_by_command_ends_and_one_that_was_does_not_begin() -> None:
    """Whatever starts it again: only ``uncordon`` puts it back."""
    one = Noting(child().settings)
    supervisor = Launcher([one], AWAY)
    mark = {HOST: Cordon(reason="moved to another rack", since="2026-01-01T00:00:00Z")}
    supervisor.cordons._marks = mark
    assert supervisor._tend() and not hasattr(one, "starts")
    report = supervisor.report()
    assert (report.state, report.reason) == ("out of service", "moved to another rack")
    supervisor.cordons._marks = {}
    assert supervisor._tend() and one.starts == 1
    supervisor.cordons._marks = mark
    assert not supervisor._tend()
    assert supervisor.report().state == "draining"


def test_a_host_that_is_out_of_service_says_so_once_and_that_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """It starts nothing, and without a line would seem to hang."""
    supervisor = Launcher([Noting(child().settings)], AWAY)
    mark = Cordon(reason="a new fan", since="2026-01-01T00:00:00Z")
    with caplog.at_level(logging.INFO):
        for marks in ({f"{HOST}/sim:0": mark}, {HOST: mark}, {HOST: mark}, {}, {}):
            supervisor.cordons._marks = marks
            supervisor._tend()
    told = [(vars(record)["action"], vars(record)["place"], vars(record).get("reason")) for record in caplog.records]
    assert told == [
        ("out_of_service", f"{HOST}/sim:0", "a new fan"),
        ("out_of_service", HOST, "a new fan"),
        ("in_service", f"{HOST}/sim:0", None),
        ("in_service", HOST, None),
    ]


def test_a_supervisor_has_the_name_that_it_was_given() -> None:
    """In its report, in the marks that take it out of service, and in the names of its workers."""
    settings = child().settings.model_copy(update={"host": "left"})
    one = Noting(settings)
    supervisor = Launcher([one], AWAY)
    assert (supervisor.report().host, settings.worker_id(7)) == ("left", "left/sim:0/7")
    supervisor.cordons._marks = {HOST: Cordon(reason="", since="")}
    assert supervisor._tend() and one.starts == 1
    supervisor.cordons._marks = {"left": Cordon(reason="", since="")}
    assert not supervisor._tend()


@pytest.mark.parametrize("name", ["a/b", "", " ", "-x", "a b", "x" * 254, "\x1b[2J", "a:"])
def test_a_name_that_no_command_could_give_again_is_refused(name: str) -> None:
    """A place is HOST/DEVICE."""
    with pytest.raises(InputError, match=r"^a host's name must be made of letters, digits"):
        checked_host(name)
    assert checked_host("node-7.left_2") == "node-7.left_2"


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

    def fail(*_: object) -> None:
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
        for _ in range(4):
            supervisor._on_signal(signal.SIGINT, None)
    assert caplog.messages == [
        "the workers finish the chunks in hand; a second signal has them given back at once",
        "the workers give back the chunks in hand; a third signal kills them",
        "the workers are killed; others take their chunks over",
        "the workers are killed; others take their chunks over",
    ]


def test_signals_drain_then_give_back_then_kill(listening: Listening) -> None:
    """Each once, and none is skipped."""
    supervisor = Launcher([listening], AWAY)
    for urgency in (FINISH, GIVE_BACK, KILL):
        supervisor._on_signal(signal.SIGINT, None)
        for _ in range(2):
            assert supervisor._tend()
        assert listening.urgency == urgency
    assert listening.sent == [signal.SIGTERM, GIVE_BACK_SIGNAL, signal.SIGKILL]


def test_the_first_signal_after_a_command_to_drain_hurries_nobody(listening: Listening) -> None:
    """Service managers send one to whatever ends by itself."""
    supervisor = Launcher([listening], AWAY)
    supervisor._ask_to_end(FINISH, {"reason": "drained by command"})
    supervisor._on_signal(signal.SIGTERM, None)
    assert supervisor._urgency == FINISH
    supervisor._on_signal(signal.SIGTERM, None)
    assert supervisor._urgency == GIVE_BACK


def test_a_device_whose_host_ends_has_ended_too_and_needs_nobody() -> None:
    """It is not out of service."""
    one = child()
    supervisor = Launcher([one], AWAY)
    supervisor._on_signal(signal.SIGTERM, None)
    assert [device.state for device in supervisor.report().devices] == ["ended"]


def test_a_process_that_does_not_end_in_its_time_is_killed(listening: Listening) -> None:
    """A device that hangs must not hold up a host that shall be switched off."""
    supervisor = Launcher([listening], AWAY)
    supervisor._on_signal(signal.SIGTERM, None)
    supervisor._tend()
    listening._kill_at -= DRAIN_TIMEOUT_S
    supervisor._tend()
    assert listening.sent == [signal.SIGTERM]
    listening._kill_at = time.monotonic() - 1
    supervisor._tend()
    assert listening.sent == [signal.SIGTERM, GIVE_BACK_SIGNAL, signal.SIGKILL]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "line"),
    [
        (["--devices", "gpu:1"], 1, "--devices must be one of auto, npu"),
        (
            ["--broker", "amqp://localhost"],
            1,
            "the broker's URL must start with redis:// or rediss://, got 'amqp://localhost'",
        ),
        (["--broker", "sentinel://h:26379"], 1, "must start with redis:// or rediss://, got 'sentinel://h:26379'"),
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
        [sys.executable, "-m", "workers.process.main"],
        input=b"{}",
        capture_output=True,
        check=False,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == EXIT_UNUSABLE != EXIT_OK
    assert b"settings on standard input" in done.stderr
