"""Settings that no device can follow are refused when they are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ddim_core.errors import InputError
from ddim_core.sampling.settings import SamplingSettings


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"device": "GPU"}, "device must be CPU or Ascend, got GPU"),
        ({"dtype": "int8"}, "dtype must be auto or float32 or float16 or bfloat16, got int8"),
        ({"flash_attention": "yes"}, "flash_attention must be auto or on or off, got yes"),
        ({"slots": 0}, "slots must be at least 1, got 0"),
        ({"decode_batch": 0}, "decode_batch must be at least 1, got 0"),
        ({"queue_limit": 0}, "queue_limit must be at least 1, got 0"),
        ({"dtype": "float16"}, "dtype must be float32 on the CPU, .* got float16"),
        ({"flash_attention": "on"}, "flash_attention must be auto or off on the CPU, got on"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(told: dict[str, Any], message: str) -> None:
    """Before a process has loaded MindSpore for them."""
    with pytest.raises(InputError, match=message):
        SamplingSettings(Path(), **told)


def test_auto_resolves_by_device() -> None:
    """float16 is what Ascend is fast at and the CPU has no convolution for."""
    assert SamplingSettings(Path()).dtype_on_device == "float32"
    assert SamplingSettings(Path(), device="Ascend").dtype_on_device == "float16"
    assert SamplingSettings(Path(), device="Ascend", dtype="bfloat16").dtype_on_device == "bfloat16"
