"""The checkpoints of this host or of a fleet, as a person chooses one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddim_core.checkpoints.folder import digest
from ddim_core.checkpoints.notes import note_of, places_to_note, single_files, variants_to_note
from ddim_core.contracts.checkpoints import CheckpointNote
from ddim_core.contracts.queue import WorkerReport
from ddim_core.errors import InputError
from producer.requests.advice import words_of_settings

_ALIGNED = 12


@dataclass(frozen=True, slots=True)
class Listed:
    """A checkpoint, and which hosts have it."""

    note: CheckpointNote
    hosts: tuple[str, ...] = ()
    """Empty: this one."""

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**self.note.model_dump(), "hosts": list(self.hosts)}

    def __str__(self) -> str:
        """Return it for a person: its name, then a line for each thing to know."""
        lines = {"hosts": ", ".join(self.hosts)} if self.hosts else {}
        lines |= {"fault": self.note.fault} if self.note.fault else _facts(self.note)
        if self.note.folder != self.note.name:
            lines["folder"] = self.note.folder
        return "\n".join([self.note.name, *(f"  {name:<{_ALIGNED}} {value}" for name, value in lines.items())])


def checkpoints_here(folders: Iterable[str]) -> list[Listed]:
    """Return the packaged checkpoints and those below the folders; reads all weights, for their digests.

    Raises:
        InputError: There is no such folder.
    """
    given = [Path(folder).expanduser().resolve() for folder in folders]
    for folder in given:
        if not folder.is_dir():
            raise InputError(f"--models must be a folder, got {folder}")
    notes = [
        _with_digest(note_of(name, folder, variant))
        for name, folder in places_to_note(given)
        for variant in variants_to_note(folder)
    ]
    return [Listed(note) for note in (*notes, *single_files(given))]


def checkpoints_of_fleet(reports: Sequence[WorkerReport]) -> list[Listed]:
    """Return what the workers report, each checkpoint once for all hosts where it is the same.

    A digest is known once a worker has read the weights; one worker of a host may know what another does not.
    """
    by_host: dict[tuple[str, str, str | None], CheckpointNote] = {}
    for report in reports:
        for note in report.checkpoints:
            place = (report.host, note.folder, note.variant)
            if place not in by_host or note.digest:
                by_host[place] = note
    hosts: dict[tuple[object, ...], list[str]] = {}
    notes: dict[tuple[object, ...], CheckpointNote] = {}
    for (host, _, _), note in sorted(by_host.items(), key=lambda item: item[0][:2]):
        same = (Path(note.name).name, note.variant, note.digest or (note.folder, note.size_bytes, note.fault))
        notes.setdefault(same, note)
        hosts.setdefault(same, []).append(host)
    return [Listed(note, tuple(dict.fromkeys(hosts[same]))) for same, note in notes.items()]


def _with_digest(note: CheckpointNote) -> CheckpointNote:
    if note.fault:
        return note
    return note.model_copy(update={"digest": digest(Path(note.folder), note.variant)})


def _facts(note: CheckpointNote) -> dict[str, str]:
    variant = f", variant {note.variant}" if note.variant else ""
    facts = {
        "kind": f"{note.pipeline}, {note.dtype or 'no floats'}, {note.size_bytes / 1e6:,.1f} MB{variant}",
        "digest": note.digest or "not read yet",
        "takes": _request(note),
        "sizes": _sizes(note),
    }
    if note.takes != "nothing":
        facts["guidance"] = f"{note.guidance_scale:g} unless a request says otherwise"
    if note.recommended:
        facts["recommends"] = ", ".join(words_of_settings(note.recommended))
    return facts


def _request(note: CheckpointNote) -> str:
    what = {
        "prompt": "prompt" if note.token_limit is None else f"prompt, up to {note.token_limit} tokens",
        "class_label": f"class_label, of {note.classes} classes",
        "nothing": "neither prompt nor class_label",
    }[note.takes]
    return f"{what}; {', '.join(['interpolate', 'trace', *(['invert'] if note.inverts else [])])}"


def _sizes(note: CheckpointNote) -> str:
    standard = f"{note.width}x{note.height}"
    return f"{standard} alone" if note.fixed_size else f"{standard} unless given, multiples of {note.size_factor}"
