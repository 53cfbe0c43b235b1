"""Published output of ``npu-smi`` and what is read from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddim_core.errors import HostError
from workers.devices import npu_smi

DATA = Path(__file__).parents[3] / "data" / "npu-smi"


def test_a_mapping_lists_chips_by_logic_id_and_no_controllers() -> None:
    """The Mcu has a row of its own, with ``-`` for a logic id."""
    chips = npu_smi.parse_mapping((DATA / "info-m-910b4.txt").read_text())
    assert [(chip.npu_id, chip.chip_id, chip.logic_id, chip.name) for chip in chips] == [
        (0, 0, 0, "Ascend 910B4"),
        (1, 0, 1, "Ascend 910B4"),
    ]


def test_a_container_sees_logic_ids_from_zero_for_other_npu_ids() -> None:
    """NPUs 3 and 4 of the host are logic ids 0 and 1 inside; a process must ask for the latter."""
    chips = npu_smi.parse_mapping((DATA / "info-m-container-two-910b3.txt").read_text())
    assert [(chip.npu_id, chip.logic_id) for chip in chips] == [(3, 0), (4, 1)]


def test_health_is_read_from_its_own_line() -> None:
    """Error code and information follow it."""
    assert npu_smi.parse_health((DATA / "health-ok.txt").read_text()) == "OK"
    assert npu_smi.parse_health("") == "UNKNOWN"


def test_a_duo_card_has_two_chips_with_memory_in_the_only_pair() -> None:
    """310P3: the second row's first cell holds chip and device, and there is no HBM column."""
    usages = npu_smi.parse_usage((DATA / "info-310p3-duo.txt").read_text())
    assert [(u.npu_id, u.chip_id, u.health, u.memory_used_mb, u.memory_total_mb) for u in usages] == [
        (2, 0, "OK", 1529, 44280),
        (2, 1, "OK", 1412, 43693),
    ]


def test_a_busy_host_shows_load_hbm_and_processes() -> None:
    """910B3: memory is the last pair, HBM; processes stand in a table of their own."""
    text = (DATA / "info-910b3-busy.txt").read_text()
    usages, processes = npu_smi.parse_usage(text), npu_smi.parse_processes(text)
    assert [(u.npu_id, u.aicore_percent, u.memory_used_mb, u.memory_total_mb) for u in usages] == [
        (0, 0, 60478, 65536),
        (1, 93, 60060, 65536),
    ]
    assert [(p.npu_id, p.pid, p.name, p.memory_mb) for p in processes] == [
        (0, 683932, "python", 56154),
        (1, 683933, "python", 55755),
    ]


def test_affinity_is_the_last_column_of_the_topology() -> None:
    """Seven of the eight rows were published; the header begins with NPU0 too and is none."""
    near = npu_smi.parse_topology((DATA / "topo-8x910b3.txt").read_text())
    assert sorted(near) == [0, 1, 2, 3, 4, 5, 6]
    assert near[0] == near[1] == tuple(range(144, 168))
    assert near[6] == tuple(range(48, 72))


@pytest.mark.parametrize("name", ["info-l-910b4.txt", "usages-910a.txt", "README.md"])
def test_other_output_yields_nothing(name: str) -> None:
    """What another subcommand prints is not taken for chips, load or topology."""
    text = (DATA / name).read_text()
    assert npu_smi.parse_mapping(text) == npu_smi.parse_usage(text) == npu_smi.parse_processes(text) == []
    assert npu_smi.parse_topology(text) == {}


@pytest.mark.parametrize(
    ("text", "cores"),
    [("0-3", (0, 1, 2, 3)), ("5", (5,)), ("0-1,8,10-11", (0, 1, 8, 10, 11)), ("HCCS", ()), ("", ()), ("1-", ())],
)
def test_a_list_of_cores_is_ranges_and_numbers(text: str, cores: tuple[int, ...]) -> None:
    """The form of Linux; anything else is no list."""
    assert npu_smi.parse_cores(text) == cores


def test_a_missing_npu_smi_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the remedy."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="npu-smi must be on the PATH"):
        npu_smi.run_npu_smi("info", "-m")


def test_a_hanging_npu_smi_is_given_up(fake_npu_smi: Path) -> None:
    """It does hang, when the driver does."""
    fake_npu_smi.write_text("#!/bin/sh\nexec sleep 30\n")
    with pytest.raises(HostError, match=r"npu-smi info -m must answer within 0\.2 s"):
        npu_smi.run_npu_smi("info", "-m", timeout_s=0.2)


def test_a_failing_npu_smi_is_quoted(fake_npu_smi: Path) -> None:
    """The first line of what it says."""
    fake_npu_smi.write_text("#!/bin/sh\necho 'dcmi model initialized failed' >&2; exit 255\n")
    with pytest.raises(HostError, match="got exit code 255: dcmi model initialized failed"):
        npu_smi.run_npu_smi("info", "-m")
