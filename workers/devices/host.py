"""The NPUs of this host: which there are, how healthy each die is, and which cores are near it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ddim_core.errors import HostError
from workers.devices import npu_smi
from workers.devices.npu_smi import UNKNOWN, Chip, NpuSmi

DEVICE_FOLDER = Path("/dev")
"""Where the driver shows each NPU as ``davinciN``."""

Place = tuple[int, int]
"""Card and die, as ``npu-smi`` numbers them."""


@dataclass(frozen=True, slots=True)
class Host:
    """What pinning needs to know of a host."""

    chips: tuple[Chip, ...] = ()
    near_cores: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Cores near each NPU, by NPU id."""
    health: Mapping[Place, str] = field(default_factory=dict)
    """Of each die."""
    cores: tuple[int, ...] = (0,)
    """Cores that this process may use."""
    table: str = ""
    """What ``npu-smi info`` printed: the load of each die, and who holds its memory."""
    trouble: str | None = None
    """Why ``npu-smi`` could not be asked, though there is an NPU."""

    def health_of(self, chip: Chip) -> str:
        """Return what is known of a die's health."""
        return self.health.get(chip.place, UNKNOWN)

    @property
    def fit(self) -> tuple[Chip, ...]:
        """The dies that are served unasked: the healthy ones, or all where nothing can be said of any."""
        healthy = tuple(chip for chip in self.chips if self.health_of(chip) in npu_smi.HEALTHY)
        return self.chips if all(self.health_of(chip) == UNKNOWN for chip in self.chips) else healthy


def look_around() -> Host:
    """Return this host's NPUs, none where there are none; ``npu-smi`` is asked for at most ``npu_smi.ROUND_S``.

    In a container a single NPU is known by its device file, whether or not ``npu-smi`` is there and answers: a user
    other than root may not ask it on some hosts.

    Raises:
        HostError: There are NPUs, and they cannot be told apart; it says why.
    """
    cores = tuple(sorted(os.sched_getaffinity(0)))
    if not has_npus():
        return Host(cores=cores)
    smi = NpuSmi()
    try:
        chips = npu_smi.parse_mapping(smi.ask("info", "-m"))
    except HostError as exc:
        return Host((_only_device_file(exc),), cores=cores, trouble=str(exc))
    if not chips:
        return _unlisted(cores)
    seen = _visible(chips, os.environ.get("ASCEND_RT_VISIBLE_DEVICES"))
    table = _answer(smi, "info")
    near = npu_smi.parse_topology(_answer(smi, "info", "-t", "topo"))
    return Host(seen, near, _health(smi, seen, table), cores, table)


def has_npus() -> bool:
    """Return whether this host seems to have NPUs: the tool that lists them, or their device files."""
    return npu_smi.is_installed() or bool(_device_files())


def _unlisted(cores: tuple[int, ...]) -> Host:
    """Return the host whose ``npu-smi`` answers and lists no NPU with a logic id."""
    nothing = HostError("npu-smi info -m must list an NPU with a logic id, got none")
    if not _device_files():
        return Host(cores=cores, trouble=str(nothing))
    return Host((_only_device_file(nothing),), cores=cores, trouble=str(nothing))


def _only_device_file(reason: HostError) -> Chip:
    """Return the only NPU by its device file: whatever its number, a process asks for it as its first."""
    files = _device_files()
    if len(files) == 1:
        return Chip(0, 0, 0, "Ascend")
    if not files:
        raise HostError(f"{reason}; and there is no {DEVICE_FOLDER}/davinciN, so no NPU was given to this machine")
    names = ", ".join(sorted(path.name for path in files))
    raise HostError(
        f"{reason}; without it the {len(files)} NPUs {names} cannot be told apart: map npu-smi into the container and "
        "run it as a user who may ask it, or give the container one NPU"
    )


def _visible(chips: Sequence[Chip], setting: str | None) -> tuple[Chip, ...]:
    """Return the chips that an ``ASCEND_RT_VISIBLE_DEVICES`` of the launcher itself leaves."""
    if not setting:
        return tuple(chips)
    allowed = set(npu_smi.parse_cores(setting))  # the same form: numbers and ranges
    return tuple(chip for chip in chips if chip.logic_id in allowed)


def _health(smi: NpuSmi, chips: Sequence[Chip], table: str) -> dict[Place, str]:
    """Return the health of each die from the one table that has all of them, and of those not in it one by one."""
    health = {(usage.npu_id, usage.chip_id): usage.health for usage in npu_smi.parse_usage(table)}
    missing = [chip for chip in chips if health.get(chip.place, UNKNOWN) == UNKNOWN]
    return {**health, **{chip.place: _health_of(smi, chip, chips) for chip in missing}}


def _health_of(smi: NpuSmi, chip: Chip, chips: Sequence[Chip]) -> str:
    question = ["info", "-t", "health", "-i", str(chip.npu_id)]
    if sum(other.npu_id == chip.npu_id for other in chips) > 1:
        question += ["-c", str(chip.chip_id)]  # without it the answer is for the card
    return npu_smi.parse_health(_answer(smi, *question))


def _answer(smi: NpuSmi, *question: str) -> str:
    """Return what ``npu-smi`` answers; nothing where this version, or this user, cannot ask that."""
    try:
        return smi.ask(*question)
    except HostError:
        return ""


def _device_files() -> list[Path]:
    return [path for path in DEVICE_FOLDER.glob("davinci*") if re.fullmatch(r"davinci\d+", path.name)]
