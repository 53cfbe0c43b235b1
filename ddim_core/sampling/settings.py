"""What a sampling process was told, read once at its entry point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddim_core.contracts.sample import Size
from ddim_core.errors import InputError

DEVICES = ("CPU", "Ascend")
DTYPES = ("auto", "float32", "float16", "bfloat16")
FLASH_ATTENTION = ("auto", "on", "off")


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """One checkpoint on one device."""

    checkpoint: Path
    device: str = "CPU"
    """One of ``DEVICES``."""
    device_index: int = 0
    """Which of the devices that this process may see."""
    slots: int = 8
    """Samples with guidance that share a batch; sizes that need more memory get a half of them, a quarter and so on."""
    sizes: tuple[Size, ...] = ()
    """What to compile before the first sample, the first one at the start; empty for the checkpoint's default size."""
    memory_limit_bytes: int | None = None
    """Of the process on the CPU, of the device elsewhere; None for 92% of the device, and no limit on the CPU."""
    cpu_threads: int | None = None
    """Threads for the CPU device's kernels; None for MindSpore's own choice. The images do not depend on it."""
    dtype: str = "auto"
    """One of ``DTYPES``; ``auto`` is float16 on Ascend and float32 on the CPU."""
    flash_attention: str = "auto"
    """``auto`` is on for Ascend; ``off`` needs more memory and keeps float32, which FlashAttention casts to float16."""
    decode_batch: int = 4
    """Latents that the VAE decodes together."""
    variant: str | None = None
    """Of the checkpoint's weights, such as ``fp16``; None takes the plain ones, or else the only variant."""
    queue_limit: int = 64
    """Specs that may wait beyond those the device has at hand; ``submit`` blocks when it is reached."""

    def __post_init__(self) -> None:
        """Refuse what no device can do.

        Raises:
            InputError: A value is unknown or out of range, or needs an NPU.
        """
        for name, allowed in {"device": DEVICES, "dtype": DTYPES, "flash_attention": FLASH_ATTENTION}.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} must be {' or '.join(allowed)}, got {getattr(self, name)}")
        for name in ("slots", "decode_batch", "queue_limit", "memory_limit_bytes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.device == "CPU" and self.dtype_on_device != "float32":
            raise InputError(f"dtype must be float32 on the CPU, which has no other convolutions, got {self.dtype}")
        if self.device == "CPU" and self.flash_attention == "on":
            raise InputError("flash_attention must be auto or off on the CPU, got on")

    @property
    def dtype_on_device(self) -> str:
        """The dtype with ``auto`` resolved."""
        if self.dtype != "auto":
            return self.dtype
        return "float16" if self.device == "Ascend" else "float32"
