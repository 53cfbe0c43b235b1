"""Load one network of a checkpoint onto the device, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mindspore as ms
from mindone.transformers import CLIPTextModel, CLIPTextModelWithProjection

from ddim_core.errors import CheckpointError, OutOfMemoryError
from ddim_core.sampling.device import device_error
from ddim_core.sampling.fused.swap import fuse

_TEXT_ENCODERS = (CLIPTextModel, CLIPTextModelWithProjection)


def load_network(network_class: Any, folder: Path, dtype: str, *, flash_attention: str = "auto") -> Any:
    """Return a network with its weights; refuse what is missing or of another shape, which mindone leaves random.

    Args:
        network_class: One of mindone's models.
        folder: Of the network: ``config.json`` and its weights.
        dtype: Of weights and activations: ``float32``, ``float16`` or ``bfloat16``.
        flash_attention: ``on``, ``off``, or ``auto`` to leave it to mindone, which uses it on Ascend.

    Raises:
        CheckpointError: The weights do not fit the class.
        OutOfMemoryError: The weights do not fit the device.
    """
    dtype_option = "dtype" if network_class in _TEXT_ENCODERS else "mindspore_dtype"
    options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        network, loading = network_class.from_pretrained(folder, **options, **{dtype_option: getattr(ms, dtype)})
    except Exception as error:  # mindone and safetensors raise whatever came up, SafetensorError and AttributeError too
        if isinstance(shortage := device_error(error), OutOfMemoryError):
            raise shortage from error
        raise CheckpointError(f"{folder} must hold a {network_class.__name__}, got one that fails: {error}") from error
    absent = [*loading["missing_keys"], *loading["mismatched_keys"]]
    if absent:
        raise CheckpointError(
            f"{folder} must hold all weights of a {network_class.__name__}, got {len(absent)} missing or of another "
            f"shape, such as {absent[0]}"
        )
    if flash_attention != "auto":
        network.set_use_memory_efficient_attention_xformers(flash_attention == "on")
    return fuse(network.set_train(False))
