"""What a sampling process was told, read once at its entry point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """One checkpoint on one device."""

    checkpoint: Path
    device: str = "CPU"
    """``CPU`` or ``Ascend``."""
    device_index: int = 0
    """Which of the devices that this process may see."""
    slots: int = 8
    """Samples with guidance that share a batch; the denoiser sees twice as many rows."""
    cpu_threads: int | None = None
    """Threads for the CPU device's kernels; None for MindSpore's own choice. The images do not depend on it."""
    dtype: str = "auto"
    """``float32``, ``float16`` or ``bfloat16``; ``auto`` is float16 on Ascend and float32 on the CPU."""
    flash_attention: str = "auto"
    """``auto`` (on Ascend), ``on`` or ``off``."""
    decode_batch: int = 4
    """Latents that the VAE decodes together."""
    queue_limit: int = 64
    """Specs that may wait beyond those the device has at hand; ``submit`` blocks when it is reached."""

    @property
    def dtype_on_device(self) -> str:
        """The dtype with ``auto`` resolved."""
        if self.dtype != "auto":
            return self.dtype
        return "float16" if self.device == "Ascend" else "float32"
