"""Where checkpoints lie below the folders that somebody named, and whether their files lie there, too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from ddim_core.checkpoints.layout import INDEX
from ddim_core.errors import CheckpointError

_REPOSITORY = "models--"
"""How the folder of a model's repository begins in a hub's cache: ``models--ORG--NAME``."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def checkpoints_below(given: Path) -> list[Path]:
    """Return the checkpoints that a folder is or holds, those of a hub's cache among them."""
    places = [given, *sorted(_children(given)), *snapshots_below(given)]
    return list(dict.fromkeys(place for place in places if is_checkpoint(place)))


def checkpoints_named(name: str, given: Iterable[Path]) -> list[Path]:
    """Return the checkpoints below the given folders that a plan, which names a path of another host, may mean.

    It is the last part of the path that counts, and for a snapshot in a hub's cache also the repository's name.
    """
    path = PurePath(name)
    names = [path.name] if path.is_absolute() or ".." in path.parts else [name, path.name]
    if (repository := _repository_of(path)) is not None:
        names.append(repository)
    places: list[Path] = []
    for folder in given:
        places += [folder / each for each in names]
        places += [folder] if folder.name in names else []
        snapshots = snapshots_below(folder)
        places += [place for place in snapshots if place.name == path.name or _repository_of(place) in names]
    return list(dict.fromkeys(place for place in places if is_checkpoint(place)))


def snapshots_below(given: Path) -> list[Path]:
    """Return the snapshots in a hub's cache: the cache, a repository in it, or its snapshots may be given."""
    if _is_snapshots(given):
        return sorted(_children(given))
    repositories = [given] if given.name.startswith(_REPOSITORY) else sorted(_children(given, f"{_REPOSITORY}*"))
    if given.name != "hub":
        repositories += sorted(_children(given / "hub", f"{_REPOSITORY}*"))
    return [place for repository in repositories for place in sorted(_children(repository / "snapshots"))]


def refuse_links_out(folder: Path, names: Iterable[str], given: Sequence[Path]) -> None:
    """Refuse files that a link has lie elsewhere than below the folders given, which are resolved.

    A snapshot of a hub's cache holds links into the folder ``blobs`` of its repository. Where the snapshot is given, or
    all of a repository's, that folder belongs to it; where a folder above is, it lies below that in any case.

    Raises:
        CheckpointError: There is such a file.
    """
    for path in (folder / name for name in names):
        target = path.resolve()
        if not any(target.is_relative_to(each) or target.parent == _blobs_of(each) for each in given):
            rule = "a checkpoint's files must lie below --models"
            raise CheckpointError(f"{rule}, got {path}, which is {target}; name that folder, too")


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder is that of a checkpoint, in order or not."""
    try:
        return (folder / INDEX).is_file()
    except (OSError, ValueError):  # a plan may give a name that no file can have
        return False


def _blobs_of(given: Path) -> Path | None:
    """Return where the files of a snapshot lie, ``models--ORG--NAME/snapshots/COMMIT``, or of a repository's all."""
    if _is_snapshots(given):
        return given.parent / "blobs"
    return None if _repository_of(given) is None else given.parent.parent / "blobs"


def _is_snapshots(folder: Path) -> bool:
    return folder.name == "snapshots" and folder.parent.name.startswith(_REPOSITORY)


def _repository_of(snapshot: PurePath) -> str | None:
    """Return the repository's name without its owner, if the path is that of a snapshot."""
    parts = snapshot.parts[-3:]
    if len(parts) < 3 or not parts[0].startswith(_REPOSITORY) or parts[1] != "snapshots":
        return None
    return parts[0].rpartition("--")[2] if _COMMIT.fullmatch(parts[2]) else None


def _children(folder: Path, pattern: str = "*") -> Iterator[Path]:
    try:
        yield from (path for path in folder.glob(pattern) if path.is_dir())
    except OSError:  # a folder that nobody may read holds nothing for us
        return
