"""Whoever sees that a run is over is told how to see an image."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from producer.main import exit_code_of
from tests.unit.producer.images.conftest import Written
from tests.unit.storage.runs import SmallRun, write_run

EXTRACT = "ddim-fleet extract"


@pytest.fixture(autouse=True)
def without_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told comes from the store."""
    monkeypatch.setenv("DDIM_FLEET_BROKER", "redis://127.0.0.1:1/0")


@pytest.mark.parametrize("command", ["status", "watch"])
def test_a_run_that_is_over_says_how_to_see_its_images(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a command that can be given as it stands, and works."""
    url = written().url
    assert exit_code_of([command, url]) == 0
    told = "".join(capsys.readouterr())
    line = told[told.index(EXTRACT) :].splitlines()[0]
    monkeypatch.chdir(tmp_path)
    assert exit_code_of(shlex.split(line)[1:]) == 0
    assert (tmp_path / "pictures" / "star-7_0.png").exists()


def test_a_run_without_an_image_or_an_end_says_nothing_of_the_kind(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to see, or more to come."""
    prompts = SmallRun().prompts
    for url in (written(committed=1).url, write_run(str(tmp_path / "none"), SmallRun(failing=frozenset(prompts))).url):
        exit_code_of(["status", url])
        assert EXTRACT not in capsys.readouterr().out


def test_a_url_that_a_shell_would_take_apart_is_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prefixes in a bucket are taken as written; so are folders, once they are URLs."""
    url = write_run(str(tmp_path / "my run; $HOME 'x'")).url
    assert exit_code_of(["status", url]) == 0
    told = capsys.readouterr().out
    assert shlex.split(told[told.index(EXTRACT) :].splitlines()[0])[2] == url
