"""What a host has to work with, for ``devices --json`` and through it for ``ddim-fleet doctor``."""

from __future__ import annotations

import os
from typing import Any

from ddim_core.errors import HostError
from ddim_core.sampling.fused.library import find_library
from workers import npu_smi
from workers.devices import choose_devices, find_chips, has_npus, look_around
from workers.npu_smi import Usage


def survey() -> dict[str, Any]:
    """Return the devices that ``--devices auto`` would serve, all NPUs with their load, and what went wrong."""
    found: dict[str, Any] = {"npu_smi": npu_smi.is_installed(), "cores": len(os.sched_getaffinity(0)), "error": None}
    try:
        npus = _npus() if has_npus() else []
        chosen = [device.label for device in choose_devices("auto")]
    except HostError as exc:
        return {**found, "error": str(exc), "devices": []}
    others = [_entry(label, label in chosen) for label in chosen if not label.startswith("npu:")]
    if others:
        library = find_library()
        found |= {"kernels": library.kernels, "kernels_found": str(library), "kernels_missing": library.reason}
    return {**found, "devices": [{**npu, "chosen": npu["device"] in chosen} for npu in npus] + others}


def _npus() -> list[dict[str, Any]]:
    chips = find_chips()
    host = look_around(chips, tuple(sorted(os.sched_getaffinity(0))))
    text = npu_smi.run_npu_smi("info") if npu_smi.is_installed() else ""
    usages = {(usage.npu_id, usage.chip_id): usage for usage in npu_smi.parse_usage(text)}
    processes = npu_smi.parse_processes(text)
    return [
        {
            "device": f"npu:{chip.logic_id}",
            "kind": "npu",
            "name": chip.name,
            "health": (host.health or {}).get(chip.npu_id, "UNKNOWN"),
            **_load(usages.get((chip.npu_id, chip.chip_id))),
            "processes": [
                {"pid": process.pid, "name": process.name, "memory_mb": process.memory_mb}
                for process in processes
                if (process.npu_id, process.chip_id) == (chip.npu_id, chip.chip_id)
            ],
        }
        for chip in chips
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
