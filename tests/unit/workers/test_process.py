"""What a worker process has running, and when."""

from __future__ import annotations

import pytest

from ddim_core.errors import DeviceError
from workers import process
from workers.process import WorkerProcess
from workers.settings import Device, WorkerSettings
from workers.watchdog import STALLED_CHECKS

SETTINGS = WorkerSettings(device=Device(kind="sim", index=0), broker_url="redis://127.0.0.1:1/0")


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
