"""The model of a checkpoint, by the class of the pipeline that it was saved from.

Import it after ``device.start``: mindone takes its kernels when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.checkpoints.plain import in_plain_form
from ddim_core.sampling.models.dit import ClassConditionalTransformer
from ddim_core.sampling.models.model import Model
from ddim_core.sampling.models.stable_diffusion import StableDiffusion
from ddim_core.sampling.models.stable_diffusion_xl import StableDiffusionXL
from ddim_core.sampling.models.unconditional import UnconditionalPixels

# The pipelines that ``ddim_core.checkpoints`` describes.
_MODELS: dict[str, Callable[..., Model]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "DiTPipeline": ClassConditionalTransformer,
    "DDPMPipeline": UnconditionalPixels,
    "DDIMPipeline": UnconditionalPixels,
}


def load_model(info: CheckpointInfo, dtype: str, *, flash_attention: str = "auto") -> Model:
    """Return a checkpoint's networks, on the device.

    Args:
        info: The checkpoint, as ``ddim_core.checkpoints.describe`` returned it.
        dtype: Of weights and activations: ``float32``, ``float16`` or ``bfloat16``.
        flash_attention: ``on``, ``off``, or ``auto`` to leave it to mindone, which uses it on Ascend.

    Raises:
        CheckpointError: The weights do not fit the model classes.
        OutOfMemoryError: The weights do not fit the device.
    """
    with in_plain_form(info) as plain:
        return _MODELS[info.pipeline](plain, dtype, flash_attention=flash_attention)
