"""Which devices a host serves, with which cores and which environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ddim_core.errors import HostError, InputError
from workers.devices import npu_smi
from workers.devices.choose import choose_devices, chosen_cores, cpu_devices, npu_devices, share_cores
from workers.devices.host import Host
from workers.devices.npu_smi import Chip
from workers.devices.survey import survey

DATA = Path(__file__).parents[3] / "data" / "npu-smi"
EIGHT = tuple(Chip(index, 0, index, "Ascend 910B3") for index in range(8))
NEAR = npu_smi.parse_topology((DATA / "topo-8x910b3.txt").read_text())


def test_npus_near_the_same_cores_divide_them() -> None:
    """Two NPUs to 24 cores: twelve each, none twice; the one without an affinity gets what is allowed at all."""
    shares = share_cores(Host(EIGHT, NEAR, {}, tuple(range(192))))
    assert shares[0] == tuple(range(144, 156)) and shares[1] == tuple(range(156, 168))
    assert shares[6] == tuple(range(48, 72))
    assert shares[7] == tuple(range(192))


def test_cores_outside_of_the_processs_own_are_not_bound() -> None:
    """A container may hold fewer cores than the topology names."""
    shares = share_cores(Host(EIGHT[:2], NEAR, {}, tuple(range(150))))
    assert shares == {0: (144, 145, 146), 1: (147, 148, 149)}


def test_each_process_sees_one_npu() -> None:
    """By logic id, and with threads to match its cores."""
    devices = npu_devices(Host(EIGHT[:2], NEAR, {(0, 0): "OK", (1, 0): "Warning"}, tuple(range(192))))
    assert [device.environment["ASCEND_RT_VISIBLE_DEVICES"] for device in devices] == ["0", "1"]
    assert {device.environment["OMP_NUM_THREADS"] for device in devices} == {"12"}


def test_a_single_npu_needs_no_variable() -> None:
    """In a one-NPU container the runtime has chosen already, and index 0 is right."""
    (device,) = npu_devices(Host(EIGHT[:1], {}, {}, (0, 1)))
    assert "ASCEND_RT_VISIBLE_DEVICES" not in device.environment


def test_an_unhealthy_npu_is_used_only_when_named() -> None:
    """Alarm, Critical and UNKNOWN are passed over by ``auto`` and ``npu``, where another is known to be healthy."""
    host = Host(EIGHT[:2], {}, {(0, 0): "Critical", (1, 0): "OK"}, (0, 1))
    assert [device.index for device in npu_devices(host)] == [1]
    assert [device.index for device in npu_devices(host, [0])] == [0]


def test_an_npu_that_is_not_there_is_refused() -> None:
    """With those that are."""
    with pytest.raises(HostError, match=r"NPUs must be among \[0, 1\] \(logic ids\), got \[7\]"):
        npu_devices(Host(EIGHT[:2], {}, {}, (0,)), [1, 7])


def test_cpu_devices_divide_the_cores_and_share_them_when_there_are_too_few() -> None:
    """Three on eight cores, then three on two."""
    assert [device.cores for device in cpu_devices(3, tuple(range(8)))] == [(0, 1), (2, 3, 4), (5, 6, 7)]
    assert [device.cores for device in cpu_devices(3, (4, 5))] == [(4,), (5,), (4,)]


def test_a_simulated_device_takes_its_step_from_the_text() -> None:
    """Milliseconds, with a fraction where wanted."""
    assert [(d.label, d.step_ms) for d in choose_devices("sim:2:0.5")] == [("sim:0", 0.5), ("sim:1", 0.5)]
    assert choose_devices("sim:1")[0].step_ms == 0


def test_more_processes_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip of the finger would start ninety processes that load a model each; two are what the examples name."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert len(choose_devices("cpu:3")) == 3
    with pytest.raises(InputError, match=r"^--devices cpu:N must have a core .*, 3 at most here, got 'cpu:99'$"):
        choose_devices("cpu:99")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert len(choose_devices("cpu:2")) == 2


@pytest.mark.parametrize(
    "text", ["", "gpu", "cpu", "cpu:0", "cpu:x", "cpu:1:5", "cpu:999", "sim:1:x", "npu:", "npu:0,"]
)
def test_a_misspelt_device_is_refused_with_the_forms(text: str) -> None:
    """The message is all a person needs."""
    with pytest.raises(InputError, match="--devices must be one of auto, npu, npu:0,1, cpu:2, sim:2"):
        choose_devices(text)


def test_auto_takes_the_healthy_npus_that_npu_smi_lists(fake_npu_smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way through the executable, with a launcher that is itself limited to some NPUs."""
    _write_host(fake_npu_smi)
    assert [device.label for device in choose_devices("auto")] == ["npu:0", "npu:1"]
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")
    assert [device.label for device in choose_devices("auto")] == ["npu:1"]


def test_auto_without_npus_takes_up_to_two_processes_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One on a host with a single core."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert len(choose_devices("auto")) == min(2, len(os.sched_getaffinity(0)))


def test_npus_are_asked_for_where_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``npu`` never falls back on the CPU in silence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="--devices npu must find an NPU, got none: this machine has neither npu-smi"):
        choose_devices("npu")


def test_the_survey_tells_load_health_and_processes(fake_npu_smi: Path) -> None:
    """What ``doctor`` prints."""
    _write_host(fake_npu_smi)
    found = survey()
    assert found["error"] is None
    assert [(d["device"], d["health"], d["chosen"], d["aicore_percent"]) for d in found["devices"]] == [
        ("npu:0", "OK", True, 0),
        ("npu:1", "OK", True, 93),
    ]
    assert found["devices"][1]["processes"] == [{"pid": 683933, "name": "python", "memory_mb": 55755}]


def test_the_survey_survives_a_broken_npu_smi(fake_npu_smi: Path) -> None:
    """The error is a line of the answer."""
    fake_npu_smi.write_text("#!/bin/sh\nexit 1\n")
    found = survey()
    assert found["devices"] == [] and "npu-smi info -m must succeed" in found["error"]


def _write_host(script: Path) -> None:
    script.write_text(
        f"""#!/bin/sh
[ "$LC_ALL" = C ] || exit 9
case "$*" in
  "info -m") cat {DATA}/info-m-910b4.txt ;;
  "info -t topo") cat {DATA}/topo-8x910b3.txt ;;
  "info -t health -i "*) cat {DATA}/health-ok.txt ;;
  "info") cat {DATA}/info-910b3-busy.txt ;;
  *) exit 3 ;;
esac
"""
    )


def test_cores_that_are_named_are_divided_and_no_others_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two supervisors on one host are kept apart so; ``cpu:2`` stays the number of processes."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 8})
    assert chosen_cores(None) == (0, 1, 2, 3, 8)
    assert chosen_cores("8,1-2,2") == (1, 2, 8)
    assert [device.cores for device in choose_devices("cpu:2", "0-3")] == [(0, 1), (2, 3)]
    (alone,) = choose_devices("cpu:1", "1")
    assert (alone.label, alone.cores, alone.environment["OMP_NUM_THREADS"]) == ("cpu:0", (1,), "1")
    assert [device.cores for device in choose_devices("sim:1", "3")] == [(3,)]
    assert [device.cores for device in choose_devices("sim:1")] == [()]
    with pytest.raises(InputError, match=r"^--devices cpu:N must have a core for each process, 2 at most here"):
        choose_devices("cpu:3", "0-1")


@pytest.mark.parametrize("text", ["", "4", "0-4", "a", "0-", "-1", "0,,1", "3-0", "0-99999999999", "cpu:0"])
def test_cores_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """With those that are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 8})
    with pytest.raises(InputError, match=r"^--cores must be a list such as 0-3,8 of the cores 0-3,8, got"):
        chosen_cores(text)
