"""The files of a checkpoint folder: JSON, and weights that are safe to load and are the ones that will be loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ddim_core.errors import CheckpointError

_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_SHARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.safetensors")
_ADAPTER = "adapter_config.json"
"""Where transformers finds it, it loads the model that this file names, from anywhere."""


def weight_files(folder: Path, part: str, stem: str) -> list[str]:
    """Return the safetensors files of a component: one, or the shards that an index names, and that index.

    Raises:
        CheckpointError: The weights are pickled, lie elsewhere, or are not the ones that every loader would take.
    """
    single, index = f"{part}/{stem}.safetensors", f"{part}/{stem}.safetensors.index.json"
    has_single, has_index = (folder / single).is_file(), (folder / index).is_file()
    if has_single and has_index:  # mindone takes the shards for some networks and the single file for others
        raise CheckpointError(f"a checkpoint must hold {single} or {index}, got both in {folder}; remove one")
    if (folder / part / _ADAPTER).exists():
        raise CheckpointError(
            f"a checkpoint must hold no {part}/{_ADAPTER}, which has another model loaded, got one in {folder}"
        )
    if has_index:
        return [index, *_shards(folder, part, index)]
    pickles = sorted(file.name for file in (folder / part).glob("*") if file.suffix in _PICKLES)
    if not has_single and pickles:
        raise CheckpointError(
            f"weights must be {single}, got {part}/{pickles[0]} in {folder}; pickled weights can run code when they "
            "are loaded, so they never are: save the pipeline again with safe_serialization=True"
        )
    return [single]


def _shards(folder: Path, part: str, index: str) -> list[str]:
    weight_map = read_json(folder, index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"weight_map must name the file of every weight, got {weight_map!r:.80} in {index}")
    for shard in weight_map.values():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            rule = f"must name .safetensors files beside {index}"
            raise CheckpointError(f"weight_map {rule}, got {shard!r:.80} in {folder}")
    return sorted({f"{part}/{shard}" for shard in weight_map.values()})


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the object in a JSON file of the folder.

    Raises:
        CheckpointError: There is no such file, or something else in it.
    """
    path = folder / name
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"a checkpoint must hold {name}, got none in {folder}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} must be a JSON file, got {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content
