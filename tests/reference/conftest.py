"""MindSpore on the CPU for the tests that compare with other code."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def cpu() -> None:
    """Bind this process to the CPU device, kernels included; skip where MindSpore is not installed."""
    pytest.importorskip("mindspore")
    from ddim_core.sampling import device

    device.start("CPU")
