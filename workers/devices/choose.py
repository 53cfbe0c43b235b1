"""The devices of this host that workers are asked to serve, each with its cores and its environment."""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from ddim_core.errors import HostError, InputError
from workers.devices import npu_smi
from workers.devices.host import Host, look_around
from workers.devices.npu_smi import UNKNOWN, Chip
from workers.settings import Device

log = logging.getLogger(__name__)

FORMS = "auto, npu, npu:0,1, cpu:2, sim:2 or sim:2:50 (milliseconds a step)"
MAX_PROCESSES = 256
AUTO_CPU_PROCESSES = 2
"""On a host without NPUs: two, with a core or more each; every further one compiles its graphs and holds weights."""

_COUNTED = re.compile(r"(cpu|sim):(\d{1,4})(?::(\d+(?:\.\d+)?))?")
_LISTED = re.compile(r"npu:(\d+(?:,\d+)*)")


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
        return auto_devices(replace(look_around(), cores=cores))
    if text == "npu":
        return npu_devices(replace(_with_npus(look_around()), cores=cores))
    if listed := _LISTED.fullmatch(text):
        host = replace(_with_npus(look_around()), cores=cores)
        return npu_devices(host, [int(number) for number in listed[1].split(",")])
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


def auto_devices(host: Host) -> list[Device]:
    """Return the NPUs that are fit, or on a host that has none, a share of the CPU for each of a few processes.

    Raises:
        HostError: There are NPUs, and all are sick.
    """
    if host.chips:
        return npu_devices(host)
    return cpu_devices(min(AUTO_CPU_PROCESSES, len(host.cores)), host.cores)


def npu_devices(host: Host, logic_ids: Sequence[int] | None = None) -> list[Device]:
    """Return the NPUs named by logic id, or else all that are fit to be served unasked.

    Raises:
        HostError: A named NPU is not here, or all are known to be sick.
    """
    known = {chip.logic_id: chip for chip in host.chips}
    unknown = [number for number in logic_ids or () if number not in known]
    if unknown:
        raise HostError(f"NPUs must be among {sorted(known)} (logic ids), got {unknown}")
    chosen = [chip.logic_id for chip in host.fit] if logic_ids is None else list(dict.fromkeys(logic_ids))
    if not chosen:
        states = ", ".join(f"npu:{chip.logic_id} {host.health_of(chip)}" for chip in host.chips)
        raise HostError(f"an NPU must be healthy to be used unasked, got {states}; name it as npu:N")
    _say_what_is_unknown(host, [known[number] for number in chosen])
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


def _with_npus(host: Host) -> Host:
    """Return ``host``, which was asked for its NPUs.

    Raises:
        HostError: It has none.
    """
    if host.chips:
        return host
    reason = host.trouble or "this machine has neither npu-smi on the PATH nor an NPU's device file (/dev/davinciN)"
    raise HostError(f"--devices npu must find an NPU, got none: {reason}; install the Ascend driver or name cpu:N")


def _say_what_is_unknown(host: Host, chips: Sequence[Chip]) -> None:
    unknown = [f"npu:{chip.logic_id}" for chip in chips if host.health_of(chip) == UNKNOWN]
    if unknown:
        extra = {"action": "health_unknown", "devices": ", ".join(unknown), "error": host.trouble}
        log.warning("the health of NPUs cannot be read; they are served all the same", extra=extra)


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
        near = host.near_cores.get(chip.npu_id, ())
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


def _in_ranges(cores: tuple[int, ...]) -> str:
    """Return cores as ``0-3,8``."""
    starts = [core for core in cores if core - 1 not in cores]
    ends = [core for core in cores if core + 1 not in cores]
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in zip(starts, ends, strict=True))


def _share(cores: tuple[int, ...], index: int, count: int) -> tuple[int, ...]:
    if count > len(cores):
        return (cores[index % len(cores)],)
    return cores[index * len(cores) // count : (index + 1) * len(cores) // count]
