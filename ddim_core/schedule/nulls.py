"""What a null in a saved scheduler configuration means to mindone and diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

UNBOUNDED = float(np.finfo(np.float32).max)
"""Of ``sample_max_value``: no float32 lies above it, so that nothing is cut."""

_FLAGS = ("clip_sample", "set_alpha_to_one", "thresholding", "rescale_betas_zero_snr")


def without_nulls(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without the nulls that mindone's ``DDIMScheduler`` takes; the others stay, to be refused.

    A flag that is null is off, since it is only ever tested for truth. ``sample_max_value`` is the upper bound of a
    clamp, and null is none. Others may be null where nothing reads them, and have their default then.
    """
    filled = {**config, **{name: False for name in _FLAGS if config.get(name, True) is None}}
    if filled.get("sample_max_value", 0) is None:
        filled["sample_max_value"] = UNBOUNDED
    unread = {name for name, is_read in _read(filled).items() if not is_read}
    return {name: value for name, value in filled.items() if value is not None or name not in unread}


def _read(config: Mapping[str, Any]) -> dict[str, bool]:
    """Return which parameters that may be null are read."""
    computed = config.get("trained_betas") is None
    ends = computed and config.get("beta_schedule") != "squaredcos_cap_v2"
    return {
        "beta_schedule": computed,
        "beta_start": ends,
        "beta_end": ends,
        "clip_sample_range": bool(config.get("clip_sample", True)),
        "dynamic_thresholding_ratio": bool(config.get("thresholding", False)),
        "steps_offset": config.get("timestep_spacing", "leading") == "leading",
        "timestep_pairs": False,  # ours alone
    }
