"""Programs beside us are started with a log, watched, and never outlive us."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddim_core.errors import HostError
from producer.local import die_with_parent as tether
from producer.local.child import last_line, running, words_of

DEAF = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
)


def wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_gets_its_input_and_leaves_a_log(tmp_path: Path) -> None:
    """Both of its outputs go there; what it was told is not among its arguments."""
    log = tmp_path / "log"
    program = "import sys; print(sys.stdin.read()); print('bye', file=sys.stderr)"
    with running("the child", [sys.executable, "-c", program], log, stdin=b"secret") as child:
        child.process.wait(20)
        with pytest.raises(HostError, match=rf"^the child ended with code 0: bye \(log: {re.escape(str(log))}\)$"):
            child.check()
    assert log.read_text() == "secret\nbye\n"


def test_a_deaf_child_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals that it ignores cost it only time."""
    monkeypatch.setattr("producer.local.child._PATIENCE_S", (0.1, 0.1))
    with running("the child", [sys.executable, "-c", DEAF], tmp_path / "log") as child:
        wait_for(child.log, "up")
        child.check()
    assert child.process.returncode == -signal.SIGKILL


def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    """Nobody would stop it then."""
    grandchild = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    program = (
        "import sys, time; from pathlib import Path; from producer.local.child import running\n"
        f"with running('x', [sys.executable, '-c', {grandchild!r}], Path({str(tmp_path / 'log')!r})): time.sleep(60)"
    )
    (tmp_path / "log").touch()
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        wait_for(tmp_path / "log", "\n")
        pid = int((tmp_path / "log").read_text())
        assert is_running(pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_whose_parent_is_gone_does_not_start() -> None:
    """It may die before the child can ask to be told."""
    command = tether.command([sys.executable, "-c", "print('started')"])
    command[command.index(str(os.getpid()))] = "1"
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(r"the parent, process 1, ended before \S+ started$", done.stderr)


def test_a_log_says_at_least_that_it_is_empty(tmp_path: Path) -> None:
    """An error message quotes it."""
    log = tmp_path / "log"
    assert last_line(log).startswith("no log: ")
    log.write_text("\n")
    assert last_line(log) == "it said nothing"
    log.write_bytes(b"first\nlast \xff" + b"x" * 400 + b"\n\n")
    assert last_line(log).startswith("last \ufffdxx") and len(last_line(log)) == 300


def test_the_error_in_a_workers_line_is_what_counts() -> None:
    """Time, level and action are for the log."""
    assert (
        words_of('2026-01-01T00:00:00 ERROR [cpu:0] cannot run action=unusable error="no MindSpore"') == "no MindSpore"
    )
    assert words_of("Killed") == "Killed"


def test_our_own_packages_come_first_where_we_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's folder named ``workers`` must not be run in place of ours."""
    monkeypatch.chdir(tmp_path)
    assert tether.safe_path() == {"PYTHONSAFEPATH": "1"}
    monkeypatch.chdir(Path(tether.__file__).parents[2])
    assert tether.safe_path() == {}
