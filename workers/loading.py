"""Which sampler a device gets for a checkpoint: MindSpore's, or the simulated one."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable

from ddim_core.contracts.plan import ModelRef
from ddim_core.version import __version__
from workers.samplers import LoadedSampler, SamplerFacts, Samplers
from workers.settings import WorkerSettings
from workers.simulated import SimulatedSampler

SIMULATED_SLOTS = 4


def make_loader(settings: WorkerSettings) -> Callable[[ModelRef], LoadedSampler]:
    """Return what loads a checkpoint on the device of ``settings``."""
    return lambda model: load_simulated(settings)


def load_simulated(settings: WorkerSettings) -> LoadedSampler:
    """Return a simulated sampler, which needs no checkpoint and takes every one for present."""
    sampler = SimulatedSampler(slots=settings.slots or SIMULATED_SLOTS, step_ms=settings.device.step_ms)
    facts = SamplerFacts(
        device_kind="simulated",
        device=settings.device.label,
        slots=settings.slots or SIMULATED_SLOTS,
        dtype="none",
        versions=json.dumps({"ddim-fleet": __version__, "python": platform.python_version()}, sort_keys=True),
    )
    return LoadedSampler(sampler, facts, sampler.occupancy)


def warm_up(samplers: Samplers, settings: WorkerSettings) -> None:
    """Load what most runs use before the first chunk comes."""
