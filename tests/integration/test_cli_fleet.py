"""The commands around a run that workers elsewhere make: worker, watch, report, doctor."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.fleet_command import started
from tests.integration.worker_host import Workers, wait_for
from tools.servers import RedisServer


@pytest.fixture
def home(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder with prompts, and the test's Redis for a broker."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("DDIM_FLEET_BROKER", redis_url)
    (folder / "prompts.txt").write_text("a red circle\n" * 9 + "sim:fail\n")
    return folder


def finish(folder: Path, *arguments: str) -> tuple[int, str, str]:
    command = started(folder, *arguments)
    out, err = command.communicate(timeout=90)
    return command.returncode, out, err


def test_a_run_is_watched_to_its_end_and_reported(home: Path, start_workers: Callable[..., Workers]) -> None:
    """Without a terminal the bar is lines; the exit code is that of the run."""
    assert finish(home, "submit", "prompts.txt", "--out", "out")[0] == 0
    watch = started(home, "watch", "out")
    assert watch.stderr is not None
    assert watch.stderr.readline() == "queued, no worker yet: 0/10 images\n"
    start_workers("sim:2:20")
    out, err = watch.communicate(timeout=90)
    assert watch.returncode == 3
    assert re.search(r"^finished: 10/10 images, 1 failed", err, re.M)
    assert re.fullmatch(r"finished: 9 images made, 1 failed, [0-9.]+ images/s\n", out)
    code, out, err = finish(home, "report", "out")
    assert (code, err) == (0, "")
    assert Path(out.strip()) == home / "out" / "report.html"
    assert Path(out.strip()).stat().st_size > 1000
    status = json.loads(finish(home, "status", "out", "--json")[1])
    assert (status["state"], status["images_made"], status["images_failed"]) == ("finished", 9, 1)


def test_watching_ends_at_ctrl_c(home: Path) -> None:
    """The run goes on without us."""
    finish(home, "submit", "prompts.txt", "--out", "out")
    watch = started(home, "watch", "out")
    assert watch.stderr is not None
    watch.stderr.readline()
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=30)
    assert watch.returncode == 130
    assert err.strip() == "ddim-fleet: interrupted"


def test_watching_goes_on_while_redis_is_away(home: Path, redis_server: RedisServer) -> None:
    """The store knows enough."""
    finish(home, "submit", "prompts.txt", "--out", "out")
    redis_server.stop()
    watch = started(home, "watch", "out")
    assert watch.stderr is not None
    assert watch.stderr.readline() == "queued: 0/10 images\n"
    watch.kill()
    watch.communicate()


def test_worker_becomes_the_workers_and_passes_arguments_and_codes(home: Path, redis_server: RedisServer) -> None:
    """A process manager's SIGTERM reaches them."""
    code, _, err = finish(home, "worker", "--devices", "abacus:1")
    assert code == 1
    assert re.search(r"--devices must be one of .*, got 'abacus:1'", err)
    worker = started(home, "worker", "--devices", "sim:1")
    with redis_server.client() as board:
        wait_for(lambda: bool(board.keys("ddim-fleet:worker:*")), 60, str)
    worker.terminate()
    worker.communicate(timeout=60)
    assert worker.returncode == 0


def test_the_doctor_looks_at_everything(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that makes wrong images is a failure, and so is the exit code."""
    code, out, _ = finish(home, "doctor", "--out", "out")
    assert code == 0
    for what in ("Python", "Celery", "MindSpore", "compile cache", "npu-smi", "redis-server", "Redis", "output"):
        assert re.search(rf"^(ok|warn) +{what} ", out, re.M), out
    monkeypatch.setenv("MS_COMPILER_CACHE_ENABLE", "1")
    code, out, _ = finish(home, "doctor")
    assert code == 2
    assert re.search(r"^fail +compile cache +MS_COMPILER_CACHE_ENABLE=1\n +-> unset", out, re.M)
