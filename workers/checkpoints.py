"""The checkpoints that this host may load: those of the package, and those below the folders it was given."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from ddim_core.checkpoints import describe, digest, resolve
from ddim_core.checkpoints.folder import PACKAGED
from ddim_core.contracts.plan import ModelRef
from ddim_core.errors import CheckpointError

_INDEX = "model_index.json"


class Checkpoints:
    """Finds checkpoints by the name that a plan gives, and makes sure that they are those the plan was made for.

    A plan names a path of the host it was made on. Here the folder may lie elsewhere, so its last part is looked for
    below the folders given; nothing outside them is ever loaded, and the digest says whether it is the right one.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        """Look in ``folders``; each is a checkpoint or holds some."""
        self._folders = [Path(folder).expanduser().resolve() for folder in folders]
        self._digests: dict[object, str] = {}
        self._lock = threading.Lock()

    def find(self, model: ModelRef) -> Path:
        """Return the folder of the checkpoint.

        Raises:
            CheckpointError: It is not on this host, or what bears its name is another one.
        """
        candidates = self._candidates(model.name)
        found = {folder: self._digest(folder) for folder in candidates}
        for folder, found_digest in found.items():
            if found_digest == model.digest:
                return folder
        if not found:
            places = ", ".join(str(folder) for folder in self._folders) or "no folder given by --models"
            rule = f"must be packaged ({', '.join(PACKAGED)}) or below --models"
            raise CheckpointError(f"checkpoint {model.name} {rule}, got none in {places}")
        raise CheckpointError(
            f"checkpoint {model.name} must have digest {model.digest}, got "
            + ", ".join(f"{found_digest} in {folder}" for folder, found_digest in found.items())
        )

    def only(self) -> ModelRef | None:
        """Return the checkpoint that most runs will want: the only one below the folders, or the packaged one."""
        folders = [folder for given in self._folders for folder in (given, *sorted(given.glob("*")))]
        found = (folder for folder in folders if _is_checkpoint(folder))
        here = list({folder.resolve(): folder for folder in reversed(list(found))}.values())
        if self._folders and len(here) != 1:
            return None
        folder = here[0] if here else resolve(PACKAGED[0])
        name = folder.name if here else PACKAGED[0]
        return ModelRef(name=name, digest=self._digest(folder), scheduler={})

    def _candidates(self, name: str) -> list[Path]:
        if name in PACKAGED:
            return [resolve(name)]
        path = PurePath(name)
        names = [path.name] if path.is_absolute() or ".." in path.parts else [name, path.name]
        places = [given / each for given in self._folders for each in names]
        places += [given for given in self._folders if given.name == path.name]
        return list(dict.fromkeys(place for place in places if _is_checkpoint(place)))

    def _digest(self, folder: Path) -> str:
        """Return the digest; gigabytes are read once for as long as the files keep their times."""
        files = describe(folder).files
        self._refuse_links_out(folder, files)
        state = (folder, tuple((name, (folder / name).stat().st_mtime_ns, size) for name, size in files.items()))
        with self._lock:
            if state not in self._digests:
                self._digests[state] = digest(folder)
            return self._digests[state]

    def _refuse_links_out(self, folder: Path, names: Iterable[str]) -> None:
        """Raise CheckpointError for files that a link has lie elsewhere than below the folders given."""
        if folder in map(resolve, PACKAGED):
            return
        for path in (folder / name for name in names):
            target = path.resolve()
            if not any(target.is_relative_to(given) for given in self._folders):
                rule = "a checkpoint's files must lie below --models"
                raise CheckpointError(f"{rule}, got {path}, which is {target}; name that folder, too")


def _is_checkpoint(folder: Path) -> bool:
    try:
        return (folder / _INDEX).is_file()
    except OSError:  # a plan may give a name that no file can have
        return False
