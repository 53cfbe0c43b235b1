"""Which sampler a device gets for a checkpoint: MindSpore's, or the simulated one."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import logging
import platform
import re
from collections.abc import Callable
from functools import partial

from ddim_core.checkpoints import describe, resolve
from ddim_core.checkpoints.folder import PACKAGED
from ddim_core.checkpoints.prompts import prompt_reader
from ddim_core.contracts.plan import ModelRef
from ddim_core.contracts.sample import Size
from ddim_core.errors import HostError
from ddim_core.sampling.service import SamplingService
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.version import __version__
from workers.samplers.checkpoints import Checkpoints, Located
from workers.samplers.samplers import Load, LoadedSampler, SamplerFacts, Samplers
from workers.samplers.simulated import SimulatedSampler
from workers.settings import Device, SamplerSettings

log = logging.getLogger(__name__)

SIMULATED_SLOTS = 4
_NEVER_SHOWN = re.compile(r"310P|910(A|B?Pro|PremiumA)", re.IGNORECASE)
"""Chips whose FlashAttention the vendor's pages exclude, and on which nobody has shown this program."""


def make_finder(settings: SamplerSettings, checkpoints: Checkpoints | None = None) -> Callable[[ModelRef], Load]:
    """Return what finds a checkpoint for the device of ``settings``, and gives what will load it.

    ``checkpoints`` are those of ``settings``, where somebody else looks at them, too.

    Raises:
        HostError: The device needs MindSpore, and it is not installed.
    """
    if settings.device.kind == "sim":
        return lambda model: partial(load_simulated, settings, model)
    missing = [name for name in ("mindspore", "mindone") if importlib.util.find_spec(name) is None]
    if missing:
        raise HostError(f"{' and '.join(missing)} must be installed to sample: pip install 'ddim-fleet[worker]'")
    known = checkpoints or Checkpoints(settings.models)
    return lambda model: partial(load_mindspore, settings, known.locate(model))


def warm_up(samplers: Samplers, settings: SamplerSettings, checkpoints: Checkpoints) -> None:
    """Load the only checkpoint there is before the first chunk comes; where there are several, the first chunk chooses.

    Raises:
        FleetError: It cannot be loaded.
    """
    if settings.device.kind == "sim":
        return
    only = checkpoints.only()
    if only is not None:
        with samplers.use(only):
            pass


def load_simulated(settings: SamplerSettings, model: ModelRef | None = None) -> LoadedSampler:
    """Return a simulated sampler, which needs no checkpoint and takes every one for present.

    It counts the tokens of prompts for a packaged one alone.
    """
    slots = settings.slots or SIMULATED_SLOTS
    sampler = SimulatedSampler(slots=slots, step_ms=settings.device.step_ms)
    facts = SamplerFacts(
        device_kind="simulated",
        device=settings.device.label,
        slots=slots,
        dtype="none",
        versions=_versions(),
    )
    packaged = model is not None and model.name in PACKAGED
    return LoadedSampler(sampler, facts, prompt_reader(describe(resolve(model.name))) if model and packaged else None)


def load_mindspore(settings: SamplerSettings, located: Located) -> LoadedSampler:
    """Return the sampling service of a checkpoint on this host, with its graphs compiled.

    Raises:
        CheckpointError: The checkpoint cannot be loaded.
        HostError: MindSpore cannot use the device.
        DeviceError: The device failed.
    """
    device = settings.device
    told = SamplingSettings(
        located.folder,
        variant=located.variant,
        device=_mindspore_name(device),
        cpu_threads=len(device.cores) or None,
        sizes=tuple(map(Size.parse, settings.sizes)),
        memory_limit_bytes=settings.memory_limit_bytes,
        flash_attention=flash_attention(device),
    )
    if settings.slots is not None:
        told = dataclasses.replace(told, slots=settings.slots)
    if settings.decode_batch is not None:
        told = dataclasses.replace(told, decode_batch=settings.decode_batch)
    service = SamplingService(told).start()
    facts = SamplerFacts(
        device_kind=(device.name or "Ascend") if device.kind == "npu" else device.kind,
        device=device.label,
        slots=told.slots,
        dtype=told.dtype_on_device,
        versions=_versions("mindspore", "mindone", "numpy", **_kernels(device)),  # NumPy draws the noise
        decode_batch=told.decode_batch,
        cpu_threads=told.cpu_threads if device.kind == "cpu" else None,
    )
    return LoadedSampler(service, facts, prompt_reader(describe(*located)))


def flash_attention(device: Device) -> str:
    """Return whether a device may use FlashAttention, as ``SamplingSettings`` says it; a doubtful chip is named."""
    if device.kind != "npu" or not _NEVER_SHOWN.search(device.name):
        return "auto"
    extra = {"action": "doubtful_chip", "device": device.label, "chip": device.name, "flash_attention": "off"}
    log.warning("nobody has shown this program on this chip; FlashAttention is switched off", extra=extra)
    return "off"


def _mindspore_name(device: Device) -> str:
    return "Ascend" if device.kind == "npu" else "CPU"


def _kernels(device: Device) -> dict[str, str]:
    """Return what the CPU computes with: MindSpore's own kernels and fused ones differ in the last bits."""
    from ddim_core.sampling.fused.operators import kernels_in_use  # MindSpore's, and so only where it is there

    return {"kernels": kernels_in_use()} if device.kind == "cpu" else {}


def _versions(*packages: str, **others: str) -> str:
    versions = {name: importlib.metadata.version(name) for name in packages} | others
    return json.dumps({"ddim-fleet": __version__, "python": platform.python_version(), **versions}, sort_keys=True)
