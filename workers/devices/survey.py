"""What a host has to work with, for ``devices --json`` and through it for ``ddim-fleet doctor``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ddim_core.errors import HostError
from ddim_core.sampling.fused.library import find_library
from workers.devices import npu_smi
from workers.devices.choose import auto_devices
from workers.devices.host import Host, look_around
from workers.devices.npu_smi import Usage


def survey() -> dict[str, Any]:
    """Return the devices that ``--devices auto`` would serve, all NPUs with their load, and what went wrong.

    ``trouble`` is what could not be read of NPUs that are served all the same.
    """
    found: dict[str, Any] = {"npu_smi": npu_smi.is_installed(), "cores": len(os.sched_getaffinity(0))}
    found |= {"error": None, "trouble": None}
    try:
        host = look_around()
        npus = _npus(host)
    except HostError as exc:
        return {**found, "error": str(exc), "devices": []}
    try:
        chosen = [device.label for device in auto_devices(host)]
    except HostError as exc:  # all are sick
        return {**found, "error": str(exc), "devices": [{**npu, "chosen": False} for npu in npus]}
    others = [_entry(label, label in chosen) for label in chosen if not label.startswith("npu:")]
    if others:
        library = find_library()
        found |= {"kernels": library.kernels, "kernels_found": str(library), "kernels_missing": library.reason}
    devices = [{**npu, "chosen": npu["device"] in chosen} for npu in npus] + others
    return {**found, "trouble": host.trouble, "devices": devices}


def check(found: Mapping[str, Any]) -> None:
    """Make sure that an NPU would be served which is not known to be sick.

    Raises:
        HostError: None would; it says why.
    """
    if found["error"]:
        raise HostError(found["error"])
    if not any(device["kind"] == "npu" and device["chosen"] for device in found["devices"]):
        reason = found["trouble"] or "there is neither npu-smi on the PATH nor a device file /dev/davinciN"
        raise HostError(f"an NPU must be here to be served, got none: {reason}")


def _npus(host: Host) -> list[dict[str, Any]]:
    usages = {(usage.npu_id, usage.chip_id): usage for usage in npu_smi.parse_usage(host.table)}
    processes = npu_smi.parse_processes(host.table)
    return [
        {
            "device": f"npu:{chip.logic_id}",
            "kind": "npu",
            "name": chip.name,
            "health": host.health_of(chip),
            **_load(usages.get(chip.place)),
            "processes": [
                {"pid": process.pid, "name": process.name, "memory_mb": process.memory_mb}
                for process in processes
                if (process.npu_id, process.chip_id) == chip.place
            ],
        }
        for chip in host.chips
    ]


def _load(usage: Usage | None) -> dict[str, int | None]:
    if usage is None:
        return {"aicore_percent": None, "memory_used_mb": None, "memory_total_mb": None}
    return {
        "aicore_percent": usage.aicore_percent,
        "memory_used_mb": usage.memory_used_mb,
        "memory_total_mb": usage.memory_total_mb,
    }


def _entry(label: str, chosen: bool) -> dict[str, Any]:
    return {"device": label, "kind": "cpu", "name": "", "health": "OK", "chosen": chosen, "processes": []}
