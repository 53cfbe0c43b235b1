"""Whether what is installed fits together: pip mends nothing by itself, and warns once when it breaks something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

DISTRIBUTION = "ddim-fleet"
EXTRAS = {"worker": ("mindspore", "mindone"), "load": ("datasets", "webdataset", "pandas")}
"""Those of people's own machines, with the packages by which it shows that one is in use."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package that is installed."""

    version: str
    requires: Sequence[str] = ()
    """As in its metadata, markers included."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A package that another one needs otherwise."""

    name: str
    version: str | None
    """None: it is missing."""
    needed_by: str
    wanted: str

    def __str__(self) -> str:
        """Return it as a clause."""
        found = "is missing" if self.version is None else f"is {self.version}"
        return f"{self.name} {found}, {self.needed_by} needs {self.wanted or 'it'}"


Find = Callable[[str], Package | None]


def installed(name: str) -> Package | None:
    """Return what is installed under a name."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    return Package(found.version, found.requires or ())


def extras_in_use(find: Find = installed) -> list[str]:
    """Return the extras of which something is installed."""
    return [extra for extra, names in EXTRAS.items() if any(find(name) is not None for name in names)]


def conflicts(find: Find = installed) -> list[Conflict]:
    """Return what does not fit, of all that the package needs here, directly or not; none where it is not installed.

    What only an extra brings may be missing, but not of another version.
    """
    extras, found = extras_in_use(find), dict[tuple[str, str], Conflict]()
    waiting, seen = [(DISTRIBUTION, frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while waiting:
        name, wanted_extras = place = waiting.pop()
        package = find(name)
        if place in seen or package is None:
            continue
        seen.add(place)
        for needed, is_optional in _needed(package, wanted_extras):
            other = find(needed.name)
            if (other is None and not is_optional) or (other is not None and not _fits(other, needed)):
                version = None if other is None else other.version
                by = name if name == DISTRIBUTION else f"{name} {package.version}"
                conflict = Conflict(canonicalize_name(needed.name), version, by, str(needed.specifier))
                found[conflict.name, conflict.needed_by] = conflict
            waiting.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return sorted(found.values(), key=lambda conflict: (conflict.name, conflict.needed_by))


def mending(find: Find = installed) -> str:
    """Return the pip command that brings everything to releases that fit together."""
    extras = ",".join(extras_in_use(find))
    return f"pip install '{DISTRIBUTION}[{extras}]'" if extras else f"pip install {DISTRIBUTION}"


def _needed(package: Package, extras: frozenset[str]) -> Iterator[tuple[Requirement, bool]]:
    """Yield the requirements that hold here, and whether each is an extra's."""
    for text in package.requires:
        try:
            needed = Requirement(text)
        except InvalidRequirement:  # metadata of old packages
            continue
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            yield needed, False
        elif any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            yield needed, True


def _fits(package: Package, needed: Requirement) -> bool:
    try:
        return needed.specifier.contains(package.version, prereleases=True)
    except InvalidVersion:
        return True
