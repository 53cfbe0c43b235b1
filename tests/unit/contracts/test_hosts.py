"""How hosts and devices are named."""

from __future__ import annotations

import pytest

from ddim_core.contracts.hosts import checked_place
from ddim_core.errors import InputError


@pytest.mark.parametrize("place", ["node7", "node7.rack-2.example", "node7/npu:3", "node7/cpu:0"])
def test_a_place_is_a_host_or_one_of_its_devices(place: str) -> None:
    """As status prints them."""
    assert checked_place(place) == place


@pytest.mark.parametrize("place", ["", "a b", "node7/", "node7/gpu:1", "node7/npu:3/4", "/npu:3", "npu:3/node7\n"])
def test_anything_else_is_refused(place: str) -> None:
    """A mark under a misspelt name would do nothing, and nobody would know."""
    with pytest.raises(InputError, match=r"^a place must be HOST or HOST/DEVICE, such as node7 or node7/npu:3, got "):
        checked_place(place)
