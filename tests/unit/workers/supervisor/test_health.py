"""Which NPUs are taken out of service on account of their health."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddim_core.errors import HostError
from workers.supervisor.health import HealthWatch, npu_health

SCRIPT = """#!/bin/sh
case "$*" in
  "info -m") printf 'NPU ID Chip ID Chip Logic ID Chip Name\\n2 0 0 310P3\\n4 0 1 310P3\\n' ;;
  "info -t health -i 2") echo 'Health : OK' ;;
  "info -t health -i 4") echo 'Health : Critical' ;;
  *) exit 3 ;;
esac
"""


def test_an_npu_must_be_bad_twice_in_a_row() -> None:
    """A chip that is being reset says Alarm for a moment, and Warning is no reason at all."""
    told = iter([
        {"npu:0": "Alarm", "npu:1": "Warning", "npu:2": "Critical"},
        {"npu:0": "OK", "npu:1": "Warning", "npu:2": "UNKNOWN"},
        {"npu:0": "Alarm", "npu:1": "Warning", "npu:2": "Critical"},
        {"npu:0": "OK", "npu:1": "OK", "npu:2": "OK"},
    ])  # fmt: skip
    watch = HealthWatch(lambda: next(told))
    seen = []
    for _ in range(4):
        watch.look()
        seen.append(dict(watch.unfit))
    assert seen == [{}, {}, {"npu:2": "Critical"}, {}]


def test_an_npu_smi_that_hangs_says_nothing_of_the_npus() -> None:
    """A device that works must not be lost to a tool that does not."""

    def hang() -> dict[str, str]:
        raise HostError("npu-smi info must answer within 20 s, and did not; the driver may hang")

    watch = HealthWatch(hang)
    for _ in range(3):
        watch.look()
    assert watch.unfit == {}


def test_health_is_told_by_logic_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """npu-smi asks by NPU id, processes by logic id."""
    (tmp_path / "npu-smi").write_text(SCRIPT)
    (tmp_path / "npu-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert npu_health() == {"npu:0": "OK", "npu:1": "Critical"}
