"""Where the files of a checkpoint lie in its folder: one form for each way in which people have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim_core.checkpoints.files import (
    has_plain_weights,
    inside,
    read_json,
    refuse_pointers,
    variants_of,
    weight_files,
)
from ddim_core.checkpoints.pipelines import Pipeline
from ddim_core.errors import CheckpointError

INDEX = "model_index.json"
_SCHEDULER_CONFIG = "scheduler_config.json"
_SLOW_TOKENIZER = ("vocab.json", "merges.txt")
_FAST_TOKENIZER = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
# CLIPTokenizer reads these where they exist and tokenizer_config.json has no added_tokens_decoder, as in Stable
# Diffusion 1.5. It reads chat templates too, which no prompt passes through.
_OPTIONAL_TOKENIZER_FILES = ("added_tokens.json", "special_tokens_map.json", _FAST_TOKENIZER)


@dataclass(frozen=True, slots=True)
class Layout:
    """A folder's files, under the paths that they have in it and under those of the plain form.

    In the plain form each component has a folder, and no weights are of a variant. Old unconditional checkpoints have
    all files beside ``model_index.json`` instead, where diffusers looks for a component that has no folder.
    """

    folder: Path
    variant: str | None
    """Of the weights, such as ``fp16``; None: the plain ones are taken."""
    files: Mapping[str, str]
    """The path of every file that decides what is made, by its path in the plain form."""

    @property
    def scheduler_config(self) -> Path:
        """The path of the scheduler's configuration."""
        return self.folder / self.files[f"scheduler/{_SCHEDULER_CONFIG}"]


def layout_of(folder: Path, pipeline: Pipeline, variant: str | None = None, *, weights: bool = True) -> Layout:
    """Return where a checkpoint's files lie, after making sure that they are there.

    Args:
        folder: The checkpoint.
        pipeline: Its class.
        variant: Of the weights; None: the plain ones, or else the only variant there is.
        weights: Whether the folder must hold them; without, its configurations are all that is looked at.

    Raises:
        CheckpointError: A file is missing or not safe to load, or there are several variants to choose from.
    """
    places = {part: _place(folder, pipeline, part) for part in pipeline.parts}
    files = {INDEX: INDEX, f"scheduler/{_SCHEDULER_CONFIG}": inside(_scheduler_place(folder), _SCHEDULER_CONFIG)}
    for tokenizer in pipeline.tokenizers:
        files |= {f"{tokenizer}/{name}": f"{tokenizer}/{name}" for name in _tokenizer_files(folder / tokenizer)}
    chosen = _chosen(folder, pipeline, places, variant) if weights else None
    for part, (_, stem) in pipeline.parts.items():
        files[f"{part}/config.json"] = inside(places[part], "config.json")
        if weights:
            found = weight_files(folder, places[part], stem, chosen)
            files |= {f"{part}/{name}": path for name, path in found.items()}
    for path in files.values():
        if not (folder / path).is_file():
            raise CheckpointError(f"a checkpoint must hold {path}, got none in {folder}")
    refuse_pointers(folder, files.values())
    return Layout(folder, chosen, files)


def variants(folder: Path, pipeline: Pipeline) -> set[str]:
    """Return the variants, such as ``fp16``, that any component's weights come in."""
    parts = ((_place(folder, pipeline, part), stem) for part, (_, stem) in pipeline.parts.items())
    return set().union(*(variants_of(folder, place, stem) for place, stem in parts))


def part_config(folder: Path, pipeline: Pipeline, part: str) -> tuple[dict[str, Any], Path]:
    """Return a component's configuration and its path.

    Raises:
        CheckpointError: It is missing, or no JSON object.
    """
    name = inside(_place(folder, pipeline, part), "config.json")
    return read_json(folder, name), folder / name


def _place(folder: Path, pipeline: Pipeline, part: str) -> str:
    """Return the folder of a component, or nothing where its configuration lies beside ``model_index.json``."""
    if (folder / part).is_dir() or not (folder / "config.json").is_file():
        return part
    classes, _ = pipeline.parts[part]
    # One that names no class is that of the only component, if there is one.
    unnamed = classes[0] if len(pipeline.parts) == 1 else None
    return "" if read_json(folder, "config.json").get("_class_name", unnamed) in classes else part


def _scheduler_place(folder: Path) -> str:
    is_beside = not (folder / "scheduler").is_dir() and (folder / _SCHEDULER_CONFIG).is_file()
    return "" if is_beside else "scheduler"


def _tokenizer_files(folder: Path) -> Iterator[str]:
    """Yield the names of a tokenizer's files; transformers 5 saves all of a vocabulary in one."""
    if all((folder / name).is_file() for name in _SLOW_TOKENIZER) or not (folder / _FAST_TOKENIZER).is_file():
        yield from _SLOW_TOKENIZER
    yield _TOKENIZER_CONFIG
    yield from (name for name in _OPTIONAL_TOKENIZER_FILES if (folder / name).is_file())


def _chosen(folder: Path, pipeline: Pipeline, places: Mapping[str, str], wanted: str | None) -> str | None:
    """Return the variant to take: the one asked for, or the only one where weights come in no plain form."""
    parts = [(places[part], stem) for part, (_, stem) in pipeline.parts.items()]
    offered = [variants_of(folder, *part) for part in parts]
    if wanted is not None:
        if not any(wanted in names for names in offered):
            there = ", ".join(sorted(set().union(*offered))) or "none"
            raise CheckpointError(f"the weights must have the variant {wanted}, got {there} in {folder}")
        return wanted
    lacking = [
        names for part, names in zip(parts, offered, strict=True) if names and not has_plain_weights(folder, *part)
    ]
    common = set.intersection(*lacking) if lacking else set()
    if len(common) > 1:
        raise CheckpointError(
            f"weights must come plainly or in one variant, got {' and '.join(sorted(common))} in {folder}; choose one "
            "with --variant"
        )
    return next(iter(common), None)
