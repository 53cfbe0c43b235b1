"""What all tests share: the packages import from the checkout, and mindone's import noise is not an error."""

from __future__ import annotations

import os

import pytest

# Set before anything imports NumPy or MindSpore: two busy-waiting thread pools on two cores starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest_plugins = ["tests.integration.s3_server", "tests.integration.chromium"]

LONG = "DDIM_FLEET_TEST_LONG"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what is marked ``long``, unless the environment asks for it."""
    if os.environ.get(LONG):
        return
    skip = pytest.mark.skip(reason=f"takes minutes; set {LONG}=1 to run it")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)
