"""The sampler that this process runs: one checkpoint at a time, loaded when a chunk first needs it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from ddim_core.checkpoints.prompts import PromptReader
from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.plan import ModelRef, RunPlan
from ddim_core.contracts.sample import Counters, Sampler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SamplerFacts:
    """What a record says of where its image was made: what equal bytes hold for."""

    device_kind: str
    device: str
    slots: int
    """Those asked for; an image that was made says how many its batch had."""
    dtype: str
    versions: str
    """Versions of ddim-fleet, MindSpore, mindone, NumPy and Python as JSON; of the CPU also which kernels ran."""
    decode_batch: int = 1
    """Images asked to be decoded together; as for slots."""
    cpu_threads: int | None = None
    """Threads of the CPU's kernels; None on other devices."""


@dataclass(frozen=True, slots=True)
class LoadedSampler:
    """A sampler that is ready, and what is to be said of it."""

    sampler: Sampler
    facts: SamplerFacts
    prompts: PromptReader | None = None
    """What tells how long prompts are to its checkpoint; None where it takes none, or nobody has the checkpoint."""


Load: TypeAlias = Callable[[], LoadedSampler]
"""Loads the checkpoint that was found; takes seconds to minutes."""


class Samplers:
    """Hands out the sampler of a checkpoint, and replaces it when the chunks in hand need another.

    There is one at a time: a device seldom has the memory for two, and two must not compile at once in one process.
    """

    def __init__(self, find: Callable[[ModelRef], Load]) -> None:
        """Load what ``find`` finds; it raises ``CheckpointError`` for a checkpoint that is not on this host."""
        self._find = find
        self._changed = threading.Condition()
        self._counting = threading.Lock()
        self._digest: str | None = None
        self._loaded: LoadedSampler | None = None
        self._users = 0
        self._lent_alone = False
        self._waiting_alone = 0
        self._warming = 0

    @property
    def is_warming_up(self) -> bool:
        """Whether a chunk waits for its checkpoint to be loaded, or for graphs to be compiled."""
        return self._warming > 0

    @contextmanager
    def use(self, model: ModelRef, *, alone: bool = False) -> Iterator[LoadedSampler]:
        """Lend the sampler of ``model``; waits while chunks of another checkpoint use theirs.

        Args:
            model: The checkpoint.
            alone: Lend it to nobody else meanwhile, so that whatever kills the process is the borrower's.

        Raises:
            CheckpointError: The checkpoint is not here, or not the one that the plan was made for.
            HostError: This host cannot sample at all.
            DeviceError: The device failed while the checkpoint was loaded.
        """
        loaded = self._acquire(model, alone)
        try:
            yield loaded
        finally:
            with self._changed:
                self._users -= 1
                self._lent_alone = False
                self._changed.notify_all()

    def prepare(self, loaded: LoadedSampler, plan: RunPlan, limits: Limits = NO_LIMITS) -> None:
        """Have compiled what those of the run's samples need that are within the limits; returns when that is done.

        Raises:
            DeviceError: The device failed.
        """
        with self._warm_up():
            shapes = [shape for shape in plan.batch_shapes if limits.allows_size(shape.size)]
            loaded.sampler.prepare(shapes, thresholding=plan.thresholding, inverting=plan.inverting)

    def counters(self) -> Counters:
        """Return what the sampler that is loaded has done; it stands still when its device hangs."""
        loaded = self._loaded
        return Counters() if loaded is None else loaded.sampler.counters()

    @property
    def kernels(self) -> str:
        """What the loaded sampler computes with, as its rows say; empty where there is no choice, or none is loaded."""
        loaded = self._loaded
        return "" if loaded is None else str(json.loads(loaded.facts.versions).get("kernels", ""))

    def close(self) -> None:
        """Stop the sampler; what it has not begun is lost, as no chunk waits for it any more."""
        with self._changed:
            self._unload()

    def _acquire(self, model: ModelRef, alone: bool) -> LoadedSampler:
        load = self._find(model)  # before anything is unloaded: a run that cannot be made must cost the others nothing
        with self._changed:
            self._wait_for_turn(model, alone)
            if self._loaded is None or self._digest != model.digest:
                self._unload()
                try:
                    with self._warm_up():
                        self._loaded = _timed(load, model)
                except Exception:
                    self._changed.notify_all()  # whoever let this one go first has its turn now
                    raise
                self._digest = model.digest
            self._users += 1
            self._lent_alone = alone
            return self._loaded

    @contextmanager
    def _warm_up(self) -> Iterator[None]:
        with self._counting:
            self._warming += 1
        try:
            yield
        finally:
            with self._counting:
                self._warming -= 1

    def _wait_for_turn(self, model: ModelRef, alone: bool) -> None:
        self._waiting_alone += alone
        self._changed.wait_for(lambda: self._users == 0 if alone else self._may_share(model))
        self._waiting_alone -= alone

    def _may_share(self, model: ModelRef) -> bool:
        """Return whether one more may have the sampler; whoever waits for it alone goes first, or waits for ever."""
        if self._lent_alone or self._waiting_alone:
            return False
        return self._users == 0 or self._digest == model.digest

    def _unload(self) -> None:
        loaded, self._loaded, self._digest = self._loaded, None, None
        if loaded is not None:
            loaded.sampler.close(drain=False)


def _timed(load: Load, model: ModelRef) -> LoadedSampler:
    began = time.monotonic()
    log.info(
        "a checkpoint is being loaded, and its graphs compiled, which takes from half a minute to some minutes",
        extra={"action": "checkpoint_loading", "model": model.name},
    )
    loaded = load()
    log.info(
        "a checkpoint is ready",
        extra={"action": "checkpoint_ready", "model": model.name, "seconds": round(time.monotonic() - began, 1)},
    )
    return loaded
