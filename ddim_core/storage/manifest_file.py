"""``manifest.json`` as text, written and read a piece at a time: that of 100,000 chunks lists 200,000 files."""

from __future__ import annotations

from collections.abc import Iterable

from ddim_core.contracts.manifest import FileEntry, Manifest, ManifestTotals

_FILES = b'\n "files": ['
"""Begins the list of files; within a string the line would not break."""


class FileList:
    """The files of a manifest, a line each, as bytes: as objects they would take ten times the memory."""

    def __init__(self, files: Iterable[FileEntry] = ()) -> None:
        """Begin with some files."""
        self._lines = bytearray()
        self.extend(files)

    def extend(self, files: Iterable[FileEntry]) -> None:
        """Add files, in the order that they shall have."""
        for entry in files:
            self._lines += (b",\n  " if self._lines else b"\n  ") + entry.model_dump_json().encode()

    def manifest(self, totals: ManifestTotals) -> bytes:
        """Return the manifest's text."""
        head = totals.model_dump_json(indent=1, exclude={"files"}).removesuffix("\n}").encode()
        end = b"\n ]\n}\n" if self._lines else b"]\n}\n"
        return b"".join([head, b",", _FILES, self._lines, end])


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest's text."""
    return FileList(manifest.files).manifest(manifest)


def totals_in(beginning: bytes) -> ManifestTotals | None:
    """Return the totals from the first piece of a manifest's text, or None if it is not as we write it.

    Raises:
        ValidationError: The manifest is damaged.
    """
    head, found, _ = beginning.partition(_FILES)
    return ManifestTotals.model_validate_json(head.rstrip(b",") + b"}") if found else None
