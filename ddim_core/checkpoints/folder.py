"""What a checkpoint folder in diffusers' format must hold, what it says about itself, and the digest of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim_core.errors import CheckpointError, ScheduleError
from ddim_core.schedule import ScheduleConfig

PACKAGED = ("shapes",)
"""Names of the checkpoints that ship with the package."""

_INDEX = "model_index.json"
_SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
_TOKENIZER_FILES = ("tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer/tokenizer_config.json")
# CLIPTokenizer reads these where they exist and tokenizer_config.json has no added_tokens_decoder, as in Stable
# Diffusion 1.5. It reads chat templates too, which no prompt passes through.
_OPTIONAL_TOKENIZER_FILES = (
    "tokenizer/added_tokens.json",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer.json",
)
_PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
_BLOCK_BYTES = 1 << 20

# What each supported pipeline is made of: component -> (class, stem of its weights).
_PIPELINES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "StableDiffusionPipeline": {
        "unet": ("UNet2DConditionModel", "diffusion_pytorch_model"),
        "vae": ("AutoencoderKL", "diffusion_pytorch_model"),
        "text_encoder": ("CLIPTextModel", "model"),
    },
}


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a checkpoint folder says about itself."""

    folder: Path
    pipeline: str
    """Class of the pipeline it was saved from."""
    latent_channels: int
    vae_scale_factor: int
    """Pixels to one latent pixel, along each axis."""
    default_height: int
    """Pixels."""
    default_width: int
    """Pixels."""
    schedule: ScheduleConfig
    """The checkpoint's own scheduler, which requests override."""
    files: Mapping[str, int]
    """Size in bytes of every file that decides what is made, by its path in the folder, sorted."""


def resolve(name_or_path: str | Path) -> Path:
    """Return the folder of a packaged checkpoint's name or of a path.

    Raises:
        CheckpointError: There is no such folder.
    """
    folder = Path(__file__).parent / name_or_path if name_or_path in PACKAGED else Path(name_or_path)
    if not folder.is_dir():
        raise CheckpointError(
            f"checkpoint must be a folder in diffusers' format or one of {', '.join(PACKAGED)}, got {name_or_path}"
        )
    return folder


def describe(folder: Path) -> CheckpointInfo:
    """Return what the checkpoint in a folder is, after checking that all it needs is there and safe to load.

    Raises:
        CheckpointError: A file is missing or not what it should be, the weights are pickled, or the folder holds a
            pipeline or a model class that is not supported.
    """
    index = _read_json(folder, _INDEX)
    pipeline = _one_of(_PIPELINES, index.get("_class_name"), f"_class_name of {folder / _INDEX}")
    parts = _PIPELINES[pipeline]
    for part, (model_class, _) in parts.items():
        saved = index.get(part)  # [library, class]
        saved_class = saved[-1] if isinstance(saved, list) and saved else saved
        _one_of((model_class,), saved_class, f"the class of {part} in {folder / _INDEX}")
    unet, vae = _read_json(folder, "unet/config.json"), _read_json(folder, "vae/config.json")
    factor = 2 ** (len(_positive_list(vae, "block_out_channels", folder / "vae/config.json")) - 1)
    height, width = _sample_size(unet, folder / "unet/config.json")
    return CheckpointInfo(
        folder=folder,
        pipeline=pipeline,
        latent_channels=_latent_channels(unet, vae, folder),
        vae_scale_factor=factor,
        default_height=height * factor,
        default_width=width * factor,
        schedule=_schedule(folder),
        files=_files(folder, parts),
    )


def digest(folder: Path) -> str:
    """Return ``sha256:...`` over the names, sizes and contents of a checkpoint's files, in the order of their names.

    Raises:
        CheckpointError: As for ``describe``.
    """
    total = hashlib.sha256()
    for name, size_bytes in describe(folder).files.items():
        total.update(f"{name}\0{size_bytes}\0".encode())
        with (folder / name).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                total.update(block)
    return f"sha256:{total.hexdigest()}"


def _files(folder: Path, parts: Mapping[str, tuple[str, str]]) -> dict[str, int]:
    names = [_INDEX, _SCHEDULER_CONFIG, *_TOKENIZER_FILES]
    for part, (_, stem) in parts.items():
        names += [f"{part}/config.json", *_weights(folder, part, stem)]
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"a checkpoint must hold {name}, got none in {folder}")
    names += [name for name in _OPTIONAL_TOKENIZER_FILES if (folder / name).is_file()]
    return {name: (folder / name).stat().st_size for name in sorted(names)}


def _weights(folder: Path, part: str, stem: str) -> list[str]:
    """Return the safetensors files of a component: one, or the shards that an index names, and that index."""
    single, sharded = f"{part}/{stem}.safetensors", f"{part}/{stem}.safetensors.index.json"
    if not (folder / single).is_file() and (folder / sharded).is_file():
        weight_map = _read_json(folder, sharded).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"weight_map must name the file of every weight, got {weight_map!r:.80} in {sharded}")
        return [sharded, *sorted({f"{part}/{shard}" for shard in weight_map.values()})]
    pickles = sorted(file.name for file in (folder / part).glob("*") if file.suffix in _PICKLES)
    if not (folder / single).is_file() and pickles:
        raise CheckpointError(
            f"weights must be {single}, got {part}/{pickles[0]} in {folder}; pickled weights can run code when they "
            "are loaded, so they never are: save the pipeline again with safe_serialization=True"
        )
    return [single]


def _schedule(folder: Path) -> ScheduleConfig:
    # StableDiffusionPipeline forces these two on loading, in diffusers and in mindone: its latents are not in [-1, 1].
    config = {**_read_json(folder, _SCHEDULER_CONFIG), "clip_sample": False, "steps_offset": 1}
    try:
        return ScheduleConfig.from_mapping(config, ignore_unknown=True)
    except ScheduleError as error:
        raise CheckpointError(f"{error} in {folder / _SCHEDULER_CONFIG}") from error


def _latent_channels(unet: Mapping[str, Any], vae: Mapping[str, Any], folder: Path) -> int:
    taken, given = unet.get("in_channels"), vae.get("latent_channels")
    if not isinstance(given, int) or taken != given or unet.get("out_channels") != given:
        raise CheckpointError(
            f"in_channels and out_channels of the unet must equal latent_channels of the vae, got {taken}, "
            f"{unet.get('out_channels')} and {given} in {folder}; inpainting and upscaling models are not supported"
        )
    return given


def _sample_size(unet: Mapping[str, Any], path: Path) -> tuple[int, int]:
    size = unet.get("sample_size")
    pair: list[Any] = size if isinstance(size, list) else [size, size]
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise CheckpointError(
            f"sample_size must be a number of latent pixels or [height, width], got {size!r} in {path}"
        )
    return pair[0], pair[1]


def _positive_list(config: Mapping[str, Any], name: str, path: Path) -> list[int]:
    values = config.get(name)
    if not isinstance(values, list) or not values:
        raise CheckpointError(f"{name} must be a list of channel counts, got {values!r} in {path}")
    return values


def _one_of(allowed: Mapping[str, Any] | tuple[str, ...], value: Any, what: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise CheckpointError(f"{what} must be {' or '.join(allowed)}, got {value}")
    return value


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"a checkpoint must hold {name}, got none in {folder}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} must be a JSON file, got {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content
