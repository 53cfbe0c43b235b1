"""The checkpoints that this host may load: those of the package, and those below the folders it was given."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ddim_core.checkpoints import describe, digest, resolve
from ddim_core.checkpoints.folder import PACKAGED, editions
from ddim_core.checkpoints.notes import note_of, places_to_note, variants_to_note
from ddim_core.checkpoints.places import checkpoints_below, checkpoints_named, refuse_links_out
from ddim_core.contracts.checkpoints import CheckpointNote
from ddim_core.contracts.plan import ModelRef
from ddim_core.errors import CheckpointError


class Located(NamedTuple):
    """A checkpoint on this host."""

    folder: Path
    variant: str | None
    """Of its weights; None: what is taken unless somebody says otherwise."""


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
        return self.locate(model).folder

    def locate(self, model: ModelRef) -> Located:
        """Return the folder of the checkpoint, and which variant of its weights has the digest.

        Raises:
            CheckpointError: It is not on this host, or what bears its name is another one.
        """
        found: dict[Located, str] = {}
        faults: list[CheckpointError] = []
        for located in self._candidates(model.name):
            try:
                found[located] = self._digest(located)
            except CheckpointError as fault:  # another of the same name may be the right one
                faults.append(fault)
                continue
            if found[located] == model.digest:
                return located
        if not found and faults:
            raise faults[0]
        if not found:
            places = ", ".join(str(folder) for folder in self._folders) or "--models, which names no folder"
            rule = f"must be packaged ({', '.join(PACKAGED)}) or below --models"
            raise CheckpointError(f"checkpoint {model.name} {rule}, got none in {places}")
        raise CheckpointError(
            f"checkpoint {model.name} must have digest {model.digest}, got "
            + ", ".join(f"{digest} in {_shown(located)}" for located, digest in found.items())
        )

    def only(self) -> ModelRef | None:
        """Return the checkpoint that most runs will want: the only one below the folders, or the packaged one."""
        found = [folder for given in self._folders for folder in checkpoints_below(given)]
        here = list({folder.resolve(): folder for folder in reversed(found)}.values())
        if self._folders and len(here) != 1:
            return None
        folder = here[0] if here else resolve(PACKAGED[0])
        name = folder.name if here else PACKAGED[0]
        return ModelRef(name=name, digest=self._digest(Located(folder, None)), scheduler={})

    def _candidates(self, name: str) -> Iterator[Located]:
        """Yield what a plan may mean, each with the weights that are taken by default first."""
        folders = [resolve(name)] if name in PACKAGED else checkpoints_named(name, self._folders)
        for folder in folders:
            yield Located(folder, None)
            try:
                others = editions(folder)[1:]
            except CheckpointError:  # which the first one says, too
                continue
            yield from (Located(folder, variant) for variant in others)

    def notes(self) -> tuple[CheckpointNote, ...]:
        """Return what there is to say of each checkpoint here; digests of those alone that were read before."""
        return tuple(
            self._note(name, Located(folder, variant))
            for name, folder in places_to_note(self._folders)
            for variant in variants_to_note(folder)
        )

    def _note(self, name: str, located: Located) -> CheckpointNote:
        try:
            known = self._digests.get(self._state(located), "")
        except (CheckpointError, OSError) as fault:
            return CheckpointNote(name=name, folder=str(located.folder), variant=located.variant, fault=str(fault))
        return note_of(name, *located, known)

    def _digest(self, located: Located) -> str:
        """Return the digest; gigabytes are read once for as long as the files keep their times."""
        state = self._state(located)
        with self._lock:
            if state not in self._digests:
                self._digests[state] = digest(*located)
            return self._digests[state]

    def _state(self, located: Located) -> object:
        """Return what changes with the files, after making sure that they lie where they may."""
        folder, variant = located
        files = describe(folder, variant).files
        if folder not in map(resolve, PACKAGED):
            refuse_links_out(folder, files, self._folders)
        return folder, tuple((name, (folder / name).stat().st_mtime_ns, size) for name, size in files.items())


def _shown(located: Located) -> str:
    return f"{located.folder}" + (f" ({located.variant})" if located.variant else "")
