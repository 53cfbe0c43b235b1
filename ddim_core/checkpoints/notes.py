"""What there is to say of a checkpoint before anybody loads it; whatever a folder holds, it is said and not raised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ddim_core.checkpoints.folder import PACKAGED, CheckpointInfo, describe, editions, resolve
from ddim_core.checkpoints.places import checkpoints_below
from ddim_core.checkpoints.recommended import read_recommended
from ddim_core.checkpoints.tensors import FLOATS, tensors_of
from ddim_core.checkpoints.wanted import wrong_form
from ddim_core.contracts.checkpoints import CheckpointNote
from ddim_core.errors import CheckpointError


def places_to_note(given: Iterable[Path]) -> list[tuple[str, Path]]:
    """Return name and folder of the packaged checkpoints and of those below the folders given, each of these once."""
    packaged = [(name, resolve(name)) for name in PACKAGED]
    below = {path.resolve(): path for folder in given for path in reversed(checkpoints_below(folder))}
    return [*packaged, *((str(path), path) for path in sorted(below.values()))]


def single_files(given: Iterable[Path]) -> list[CheckpointNote]:
    """Return a note of each single file of everything that lies in the folders given, beside checkpoints."""
    files = sorted(path for folder in given for path in folder.glob("*.safetensors") if not _is_part(folder))
    return [CheckpointNote(name=str(file), folder=str(file), fault=f"it is {wrong_form(str(file))}") for file in files]


def variants_to_note(folder: Path) -> list[str | None]:
    """Return the variants of a folder's weights that each are a checkpoint of their own."""
    try:
        plain, *others = editions(folder)
        taken = describe(folder).variant
    except CheckpointError:
        return [None]
    return [plain, *(variant for variant in others if variant != taken)]


def note_of(name: str, folder: Path, variant: str | None = None, digest: str = "") -> CheckpointNote:
    """Return what a checkpoint is, or what is wrong with it."""
    try:
        info = describe(folder, variant)
        recommended = read_recommended(info)
        dtype = _dtypes(info)
    except (CheckpointError, OSError) as fault:
        return CheckpointNote(name=name, folder=str(folder), variant=variant, fault=str(fault))
    return CheckpointNote(
        name=name,
        folder=str(folder),
        pipeline=info.pipeline,
        digest=digest,
        variant=info.variant,
        size_bytes=sum(info.files.values()),
        dtype=dtype,
        takes=info.takes,
        classes=None if info.labels is None else info.labels.count,
        token_limit=info.token_limit,
        height=info.default_height,
        width=info.default_width,
        size_factor=info.size_factor,
        fixed_size=info.fixed_size,
        guidance_scale=info.guidance_scale,
        inverts=info.inverts,
        recommended=recommended,
    )


def _is_part(folder: Path) -> bool:
    """Return whether the weights in a folder are a component's, or those of a checkpoint with all files in one."""
    return (folder / "config.json").is_file() or (folder / "model_index.json").is_file()


def _dtypes(info: CheckpointInfo) -> str:
    """Return the dtypes of a checkpoint's weights, the most frequent in bytes first.

    Raises:
        CheckpointError: A file does not begin as safetensors do.
    """
    total: Counter[str] = Counter()
    for name in info.files:
        if name.endswith(".safetensors"):
            for place in tensors_of(info.folder / name).values():
                total[place.dtype] += place.end - place.begin
    return " and ".join(FLOATS[dtype] for dtype, _ in total.most_common() if dtype in FLOATS)
