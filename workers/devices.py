"""The devices of this host that workers are asked to serve, each with its cores and its environment."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddim_core.errors import HostError, InputError
from workers import npu_smi
from workers.npu_smi import Chip
from workers.settings import Device

FORMS = "auto, npu, npu:0,1, cpu:2, sim:2 or sim:2:50 (milliseconds a step)"
MAX_PROCESSES = 256
AUTO_CPU_PROCESSES = 2
"""On a host without NPUs: two, with a core or more each; every further one compiles its graphs and holds weights."""

_COUNTED = re.compile(r"(cpu|sim):(\d{1,4})(?::(\d+(?:\.\d+)?))?")
_LISTED = re.compile(r"npu:(\d+(?:,\d+)*)")


@dataclass(frozen=True, slots=True)
class Host:
    """What pinning needs to know of a host."""

    chips: tuple[Chip, ...] = ()
    near_cores: Mapping[int, tuple[int, ...]] | None = None
    """Cores near each NPU, by NPU id."""
    health: Mapping[int, str] | None = None
    """By NPU id."""
    cores: tuple[int, ...] = (0,)
    """Cores that this process may use."""


def chosen_cores(text: str | None) -> tuple[int, ...]:
    """Return the cores that a list such as ``0-3,8`` names; without one, all that this process may use.

    Raises:
        InputError: It is no such list, or names a core that is not this process's.
    """
    own = tuple(sorted(os.sched_getaffinity(0)))
    if text is None:
        return own
    named = () if re.search(r"\d{6}", text) else npu_smi.parse_cores(text)  # no such range is ever spelt out
    if not named or not set(named) <= set(own):
        raise InputError(f"--cores must be a list such as 0-3,8 of the cores {_in_ranges(own)}, got {text!r}")
    return tuple(sorted(set(named)))


def choose_devices(text: str, cores_text: str | None = None) -> list[Device]:
    """Return the devices that ``text`` names, in one of ``FORMS``, on the cores that ``cores_text`` does.

    Raises:
        InputError: ``text`` has another form, or the cores are not there.
        HostError: NPUs are asked for and cannot be listed, or are not there.
    """
    cores = chosen_cores(cores_text)
    if text == "auto":
        chips = find_chips() if has_npus() else ()
        return (
            npu_devices(look_around(chips, cores)) if chips else cpu_devices(min(AUTO_CPU_PROCESSES, len(cores)), cores)
        )
    if text == "npu":
        return npu_devices(look_around(require_chips(), cores))
    if listed := _LISTED.fullmatch(text):
        return npu_devices(look_around(require_chips(), cores), [int(number) for number in listed[1].split(",")])
    counted = _COUNTED.fullmatch(text)
    if counted is None or not 1 <= int(counted[2]) <= MAX_PROCESSES or (counted[1] == "cpu" and counted[3]):
        raise InputError(f"--devices must be one of {FORMS}, got {text!r}")
    if counted[1] == "cpu":
        if int(counted[2]) > (most := max(AUTO_CPU_PROCESSES, len(cores))):
            raise InputError(f"--devices cpu:N must have a core for each process, {most} at most here, got {text!r}")
        return cpu_devices(int(counted[2]), cores)
    bound = cores if cores_text else ()
    step_ms = float(counted[3] or 0)
    return [Device(kind="sim", index=index, cores=bound, step_ms=step_ms) for index in range(int(counted[2]))]


def has_npus() -> bool:
    """Return whether this host seems to have NPUs: the tool that lists them, or their device files."""
    return npu_smi.is_installed() or bool(_device_files())


def find_chips() -> tuple[Chip, ...]:
    """Return this host's NPU chips by logic id; in a container without ``npu-smi``, the one that was mapped into it.

    Raises:
        HostError: ``npu-smi`` does not answer, or several chips are here and it is not.
    """
    if npu_smi.is_installed():
        chips = tuple(npu_smi.parse_mapping(npu_smi.run_npu_smi("info", "-m")))
        return _visible(chips, os.environ.get("ASCEND_RT_VISIBLE_DEVICES"))
    files = _device_files()
    if len(files) > 1:
        raise HostError(f"npu-smi must be on the PATH to tell {len(files)} NPUs apart; map it into the container")
    return tuple(Chip(index, 0, index, "Ascend") for index, _ in enumerate(files))


def require_chips() -> tuple[Chip, ...]:
    """Return this host's NPU chips.

    Raises:
        HostError: There are none, or they cannot be listed.
    """
    chips = find_chips()
    if not chips:
        npu_smi.run_npu_smi("info", "-m")  # where it is missing or fails, its own error says more
        raise HostError("npu-smi must list an NPU with a logic id, got none; try cpu:N")
    return chips


def look_around(chips: Sequence[Chip], cores: tuple[int, ...]) -> Host:
    """Return what ``npu-smi`` says of these chips' health and cores; a version that cannot say it is no obstacle."""
    if not npu_smi.is_installed():
        return Host(tuple(chips), cores=cores)
    health = {chip.npu_id: _health(chip.npu_id) for chip in chips}
    try:
        near = npu_smi.parse_topology(npu_smi.run_npu_smi("info", "-t", "topo"))
    except HostError:
        near = {}
    return Host(tuple(chips), near, health, cores)


def npu_devices(host: Host, logic_ids: Sequence[int] | None = None) -> list[Device]:
    """Return the NPUs named by logic id, or else all that are healthy.

    Raises:
        HostError: A named NPU is not here, or none is healthy.
    """
    known = {chip.logic_id: chip for chip in host.chips}
    unknown = [number for number in logic_ids or () if number not in known]
    if unknown:
        raise HostError(f"NPUs must be among {sorted(known)} (logic ids), got {unknown}")
    healthy = [n for n, chip in known.items() if (host.health or {}).get(chip.npu_id, "OK") in npu_smi.HEALTHY]
    chosen = healthy if logic_ids is None else list(dict.fromkeys(logic_ids))
    if not chosen:
        raise HostError(f"an NPU must be healthy to be used unasked, got {dict(host.health or {})}; name it as npu:N")
    shares = share_cores(host)
    return [
        Device(
            kind="npu",
            index=number,
            name=known[number].name,
            cores=shares[number],
            environment={**_visibility(host, number), **thread_limits(len(shares[number]))},
        )
        for number in chosen
    ]


def cpu_devices(count: int, cores: tuple[int, ...]) -> list[Device]:
    """Return ``count`` devices that divide the cores; where there are more devices than cores, they share them."""
    shares = [_share(cores, index, count) for index in range(count)]
    return [
        Device(kind="cpu", index=index, cores=share, environment=thread_limits(len(share)))
        for index, share in enumerate(shares)
    ]


def share_cores(host: Host) -> dict[int, tuple[int, ...]]:
    """Return each chip's cores, by logic id: those near it, divided evenly among all chips that are near the same.

    All chips of the host count, used or not, so that workers started apart do not meet on a core.
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for chip in host.chips:
        near = (host.near_cores or {}).get(chip.npu_id, ())
        usable = tuple(core for core in near if core in host.cores) or host.cores
        groups[usable].append(chip.logic_id)
    return {
        number: _share(cores, place, len(group))
        for cores, group in groups.items()
        for place, number in enumerate(group)
    }


def thread_limits(cores: int) -> dict[str, str]:
    """Return the variables that keep numerical libraries to ``cores`` threads, waiting without spinning."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**dict.fromkeys(names, str(max(1, cores))), "OMP_WAIT_POLICY": "passive"}


def _visibility(host: Host, logic_id: int) -> dict[str, str]:
    """Return what makes ``logic_id`` the process's device 0; a single NPU, as in most containers, is that already."""
    return {} if len(host.chips) == 1 else {"ASCEND_RT_VISIBLE_DEVICES": str(logic_id)}


def _visible(chips: tuple[Chip, ...], setting: str | None) -> tuple[Chip, ...]:
    """Return the chips that an ``ASCEND_RT_VISIBLE_DEVICES`` of the launcher itself leaves."""
    if not setting:
        return chips
    allowed = set(npu_smi.parse_cores(setting))  # the same form: numbers and ranges
    return tuple(chip for chip in chips if chip.logic_id in allowed)


def _in_ranges(cores: tuple[int, ...]) -> str:
    """Return cores as ``0-3,8``."""
    starts = [core for core in cores if core - 1 not in cores]
    ends = [core for core in cores if core + 1 not in cores]
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in zip(starts, ends, strict=True))


def _share(cores: tuple[int, ...], index: int, count: int) -> tuple[int, ...]:
    if count > len(cores):
        return (cores[index % len(cores)],)
    return cores[index * len(cores) // count : (index + 1) * len(cores) // count]


def _health(npu_id: int) -> str:
    try:
        return npu_smi.parse_health(npu_smi.run_npu_smi("info", "-t", "health", "-i", str(npu_id)))
    except HostError:
        return "UNKNOWN"


def _device_files() -> list[Path]:
    return [path for path in Path("/dev").glob("davinci*") if re.fullmatch(r"davinci\d+", path.name)]
