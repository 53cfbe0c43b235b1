"""What a device is told to use, by what it is."""

from __future__ import annotations

import logging

import pytest

from workers.samplers.loading import flash_attention
from workers.settings import Device


@pytest.mark.parametrize("name", ["Ascend 310P3", "310P3", "Ascend 910A", "910ProB", "910PremiumA"])
def test_a_chip_that_nobody_has_shown_goes_without_flash_attention(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The vendor's pages exclude them; the log says so once a load."""
    with caplog.at_level(logging.WARNING):
        assert flash_attention(Device(kind="npu", index=0, name=name)) == "off"
    assert [record.action for record in caplog.records] == ["doubtful_chip"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("device", [Device(kind="npu", index=0, name="Ascend 910B3"), Device(kind="cpu", index=0)])
def test_other_devices_have_it_as_they_can(device: Device) -> None:
    """``auto`` is on for the 910B and A3, and off on the CPU."""
    assert flash_attention(device) == "auto"
