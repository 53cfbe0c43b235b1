"""What a checkpoint folder in diffusers' format must hold, what it says about itself, and the digest of its files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddim_core.checkpoints.files import read_json
from ddim_core.checkpoints.labels import ClassLabels, read_labels
from ddim_core.checkpoints.layout import INDEX, Layout, layout_of, part_config, variants
from ddim_core.checkpoints.pipelines import INVERTIBLE, PIPELINES, Pipeline, Takes
from ddim_core.checkpoints.text_limits import text_limits
from ddim_core.checkpoints.wanted import wrong_form
from ddim_core.errors import CheckpointError, ScheduleError
from ddim_core.schedule import ScheduleConfig

PACKAGED = ("shapes",)
"""Names of the checkpoints that ship with the package."""

_BLOCK_BYTES = 1 << 20
_TRAINED_SIZE = 64
"""Latent pixels along a side of the pictures that Stable Diffusion 1 was trained on."""


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a checkpoint folder says about itself."""

    folder: Path
    pipeline: str
    """Class of the pipeline it was saved from."""
    takes: Takes
    """What a request tells it to draw."""
    guidance_scale: float
    """Its pipeline's own, for requests that name none."""
    latent_channels: int
    vae_scale_factor: int
    """Pixels to one latent pixel, along each axis; 1 without a VAE."""
    size_factor: int
    """Height and width must be multiples of it, in pixels."""
    fixed_size: bool
    """Whether it draws pictures of its default size alone."""
    default_height: int
    """Pixels."""
    default_width: int
    """Pixels."""
    schedule: ScheduleConfig
    """The checkpoint's own scheduler, which requests override."""
    files: Mapping[str, int]
    """Size in bytes of every file that decides what is made, by its path in the folder, sorted."""
    labels: ClassLabels | None = None
    """The classes of one that takes ``class_label``."""
    text_limits: Mapping[str, int] = field(default_factory=dict)
    """Tokens that each of its text encoders takes, with the marks of start and end, by the folder of its tokenizer."""
    zeros_for_empty_prompt: bool = False
    """Stable Diffusion XL: an empty negative prompt is a condition of zeros, not that of an empty text."""
    upcasts_vae: bool = False
    """Stable Diffusion XL: the VAE runs in float32 where the rest runs in float16."""
    variant: str | None = None
    """Of the weights, such as ``fp16``; None: the plain ones."""
    plain_names: Mapping[str, str] = field(default_factory=dict)
    """Each file's path in the folder by the path it has where every component has a folder and no variant."""

    @property
    def token_limit(self) -> int | None:
        """How many tokens of a prompt all of its text encoders take; None of one that takes no prompts."""
        return min(self.text_limits.values(), default=None)

    @property
    def inverts(self) -> bool:
        """Whether pictures can be turned into the noise that it would make them from."""
        return self.pipeline == INVERTIBLE

    def size_fault(self, name: str, side: int) -> str | None:
        """Return the rule that a height or width, as ``name`` says, breaks, or None."""
        default = self.default_height if name == "height" else self.default_width
        return size_rule(side, default=default, factor=self.size_factor, fixed=self.fixed_size)


def size_rule(side: int, *, default: int, factor: int, fixed: bool) -> str | None:
    """Return the rule that a height or width in pixels breaks, or None."""
    if fixed and side != default:
        return f"must be {default}"
    if side < factor or side % factor:
        return f"must be a multiple of {factor}"
    return None


def resolve(name_or_path: str | Path) -> Path:
    """Return the folder of a packaged checkpoint's name or of a path.

    Raises:
        CheckpointError: There is no such folder.
    """
    if name_or_path in PACKAGED:
        return Path(__file__).parent / name_or_path
    try:
        wrong, is_folder = wrong_form(str(name_or_path)), Path(name_or_path).is_dir()
    except OSError:  # no file can have such a name
        wrong, is_folder = f"{name_or_path!s:.80}...", False
    if wrong is not None or not is_folder:
        rule = f"checkpoint must be a folder in diffusers' format or one of {', '.join(PACKAGED)}"
        raise CheckpointError(f"{rule}, got {wrong or name_or_path}")
    return Path(name_or_path)


def describe(folder: Path, variant: str | None = None) -> CheckpointInfo:
    """Return what the checkpoint in a folder is, after checking that all it needs is there and safe to load.

    ``variant`` of the weights: None takes the plain ones or, where there are none, the only variant.

    Raises:
        CheckpointError: A file is missing or not what it should be, the weights are pickled, or the folder holds a
            pipeline or a model class that is not supported.
    """
    index, name = _index_of(folder)
    pipeline = PIPELINES[name]
    config, path = part_config(folder, pipeline, pipeline.denoiser)
    vae, vae_path = part_config(folder, pipeline, "vae") if "vae" in pipeline.parts else (None, path)
    factor = 1 if vae is None else _halvings(vae, vae_path)
    height, width = _sample_size(config, path, name)
    _refuse_other_conditions(name, config, path)
    xl = name == "StableDiffusionXLPipeline"
    layout = layout_of(folder, pipeline, variant)
    return CheckpointInfo(
        folder=folder,
        pipeline=name,
        takes=pipeline.takes,
        guidance_scale=pipeline.guidance_scale,
        latent_channels=_pixel_channels(config, path) if vae is None else _latent_channels(config, vae, folder, name),
        vae_scale_factor=factor,
        size_factor=_halvings(config, path) if vae is None else factor,
        fixed_size=pipeline.fixed_size,
        default_height=height * factor,
        default_width=width * factor,
        schedule=_schedule(layout, pipeline),
        files={name: (folder / name).stat().st_size for name in sorted(layout.files.values())},
        text_limits=text_limits(folder, pipeline),
        labels=read_labels(config, index, str(folder)) if pipeline.takes == "class_label" else None,
        zeros_for_empty_prompt=xl and bool(index.get("force_zeros_for_empty_prompt", True)),
        upcasts_vae=xl and vae is not None and bool(vae.get("force_upcast", True)),
        variant=layout.variant,
        plain_names=layout.files,
    )


def editions(folder: Path) -> list[str | None]:
    """Return the variants that a folder's weights can be taken in, what ``describe`` takes by itself first.

    Raises:
        CheckpointError: The folder is of no pipeline that is supported.
    """
    _, name = _index_of(folder)
    return [None, *sorted(variants(folder, PIPELINES[name]))]


def configurations(folder: Path) -> Layout:
    """Return where the configurations and tokenizers of a checkpoint lie; its weights need not be there.

    Raises:
        CheckpointError: A file is missing, or the folder is of no pipeline that is supported.
    """
    _, name = _index_of(folder)
    return layout_of(folder, PIPELINES[name], weights=False)


def digest(folder: Path, variant: str | None = None) -> str:
    """Return ``sha256:...`` over the names, sizes and contents of a checkpoint's files, in the order of their names.

    Raises:
        CheckpointError: As for ``describe``.
    """
    total = hashlib.sha256()
    for name, size_bytes in describe(folder, variant).files.items():
        total.update(f"{name}\0{size_bytes}\0".encode())
        with (folder / name).open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                total.update(block)
    return f"sha256:{total.hexdigest()}"


def _index_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Return what ``model_index.json`` holds, and the class of the pipeline that it names."""
    index = read_json(folder, INDEX)
    name = _one_of(tuple(PIPELINES), index.get("_class_name"), f"_class_name of {folder / INDEX}")
    for part, (classes, _) in PIPELINES[name].parts.items():
        saved = index.get(part)  # [library, class]
        saved_class = saved[-1] if isinstance(saved, list) and saved else saved
        _one_of(classes, saved_class, f"the class of {part} in {folder / INDEX}")
    return index, name


def _schedule(layout: Layout, pipeline: Pipeline) -> ScheduleConfig:
    path = layout.scheduler_config
    config = {**pipeline.scheduler_defaults, **read_json(path.parent, path.name), **pipeline.scheduler}
    try:
        return ScheduleConfig.from_mapping(config, ignore_unknown=True)
    except ScheduleError as error:
        raise CheckpointError(f"{error} in {path}") from error


def _latent_channels(denoiser: Mapping[str, Any], vae: Mapping[str, Any], folder: Path, pipeline: str) -> int:
    part, given = PIPELINES[pipeline].denoiser, vae.get("latent_channels")
    taken, made = denoiser.get("in_channels"), denoiser.get("out_channels")
    # DiT may predict the variance beside the noise.
    makes = (given, 2 * given) if isinstance(given, int) and pipeline == "DiTPipeline" else (given,)
    if not isinstance(given, int) or taken != given or (made or taken) not in makes:
        raise CheckpointError(
            f"in_channels and out_channels of the {part} must equal latent_channels of the vae, got {taken}, "
            f"{made} and {given} in {folder}; inpainting and upscaling models are not supported"
        )
    return given


def _pixel_channels(unet: Mapping[str, Any], path: Path) -> int:
    channels = unet.get("in_channels")
    if channels not in (1, 3) or unet.get("out_channels") != channels:
        raise CheckpointError(
            f"in_channels and out_channels must both be 1 (grey) or 3 (RGB), got {channels} and "
            f"{unet.get('out_channels')} in {path}; models that learn the variance are not supported"
        )
    return int(channels)


def _refuse_other_conditions(pipeline: str, denoiser: Mapping[str, Any], path: Path) -> None:
    """Refuse a network that was trained with a condition which the pipeline does not give it."""
    wanted = {"addition_embed_type": "text_time" if pipeline == "StableDiffusionXLPipeline" else None}
    wanted |= {"class_embed_type": None, "num_class_embeds": None, "time_cond_proj_dim": None}
    for name, value in wanted.items():
        if denoiser.get(name) != value:
            raise CheckpointError(f"{name} must be {value} in a {pipeline}, got {denoiser.get(name)} in {path}")


def _sample_size(unet: Mapping[str, Any], path: Path, pipeline: str) -> tuple[int, int]:
    size = unet.get("sample_size")
    if pipeline == "StableDiffusionPipeline" and isinstance(size, int) and size < _TRAINED_SIZE and _is_old(unet):
        # StableDiffusionPipeline takes it for a slip of those versions, in diffusers and in mindone.
        size = _TRAINED_SIZE
    pair: list[Any] = size if isinstance(size, list) else [size, size]
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise CheckpointError(
            f"sample_size must be a number of latent pixels or [height, width], got {size!r} in {path}"
        )
    return pair[0], pair[1]


def _is_old(config: Mapping[str, Any]) -> bool:
    """Return whether a configuration says that a version of diffusers before 0.9.0 wrote it."""
    release = re.match(r"v?(\d+)(?:\.(\d+))?", str(config.get("_diffusers_version", "")))
    return release is not None and (int(release[1]), int(release[2] or 0)) < (0, 9)


def _halvings(config: Mapping[str, Any], path: Path) -> int:
    """Return how many pixels make one at the coarsest of a network's levels, along each axis."""
    channels = config.get("block_out_channels")
    if not isinstance(channels, list) or not channels:
        raise CheckpointError(f"block_out_channels must be a list of channel counts, got {channels!r} in {path}")
    return int(2 ** (len(channels) - 1))


def _one_of(allowed: tuple[str, ...], value: Any, what: str) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise CheckpointError(f"{what} must be {' or '.join(allowed)}, got {value}")
    return value
