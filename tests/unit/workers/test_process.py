"""What a worker process has running, and when."""

from __future__ import annotations

import io
import json
import sys

import pytest

from ddim_core.errors import DeviceError
from workers import process
from workers.process import WorkerProcess
from workers.settings import EXIT_UNUSABLE, Device, WorkerSettings
from workers.watchdog import STALLED_CHECKS

SETTINGS = WorkerSettings(device=Device(kind="sim", index=0), broker_url="redis://127.0.0.1:1/0")


def test_settings_that_are_none_are_told_without_the_brokers_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What validates them quotes what it was given."""
    given = SETTINGS.model_dump(exclude={"device"}) | {"broker_url": "redis://:hunter2@h", "slots": 0}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(given).encode())))
    assert process.main() == EXIT_UNUSABLE
    said = capsys.readouterr().err
    assert said.startswith("settings on standard input must be those of a worker, got: ")
    assert "slots" in said and "device" in said and "hunter2" not in said


def test_a_driver_that_hangs_while_it_loads_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else would end the process, as it never takes a message."""
    aborts: list[str] = []

    def hang(*_: object) -> None:
        assert worker._watching._thread.is_alive()
        for _check in range(STALLED_CHECKS + 5):
            worker._watch()
        raise DeviceError("gone")

    monkeypatch.setattr(process, "_abort", lambda: aborts.append("abort"))
    monkeypatch.setattr(process, "warm_up", hang)
    worker = WorkerProcess(SETTINGS)
    with pytest.raises(DeviceError):
        worker.run()
    worker._stop()
    assert aborts == ["abort"]
