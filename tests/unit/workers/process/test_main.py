"""What a worker process has running, and when."""

from __future__ import annotations

import io
import json
import sys
import time

import pytest

from ddim_core.errors import DeviceError
from workers.chunks.on_device import OnDevice
from workers.process import main as process
from workers.process.main import WorkerProcess
from workers.process.watchdog import ALARM_MARGIN_S, LOADING_S
from workers.settings import EXIT_UNUSABLE, Device, WorkerSettings

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
        worker._watch()
        worker._watchdog._clock = lambda: time.monotonic() + LOADING_S
        worker._watch()
        raise DeviceError("gone")

    monkeypatch.setattr(process, "_abort", lambda: aborts.append("abort"))
    monkeypatch.setattr(process, "warm_up", hang)
    worker = WorkerProcess(SETTINGS)
    with pytest.raises(DeviceError):
        worker.run()
    worker._stop()
    assert aborts == ["abort"]


def test_a_device_that_hangs_with_one_image_on_it_ends_the_process_after_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Redis is away here, so the process waits a little for it; then it ends all the same."""
    asked: list[str] = []
    monkeypatch.setattr(process, "_abort", lambda: asked.append("abort"))
    monkeypatch.setattr(OnDevice, "accuse", lambda _, reason, patience_s: asked.append(f"{reason} ({patience_s:g})"))
    worker = WorkerProcess(SETTINGS.model_copy(update={"stall_timeout_s": 5.0}))
    worker._chunks.on_device.add()
    worker._watch()
    worker._watchdog._clock = lambda: time.monotonic() + 5
    worker._watch()
    worker._stop()
    assert asked == ["the device stood still for 5 s with this image alone on it (30)", "abort"]


def test_a_process_that_stops_takes_back_what_it_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it watches itself, the kernel ends it if it does not look in time."""
    asked: list[float] = []
    monkeypatch.setattr(process, "set_alarm", asked.append)
    worker = WorkerProcess(SETTINGS)
    worker._watch()
    worker._stop()
    assert asked == [LOADING_S + ALARM_MARGIN_S, 0]
