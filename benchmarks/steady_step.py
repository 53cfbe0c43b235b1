"""One denoising step outside the service, for a look inside: with all slots taken, and its denoiser alone.

Import it after ``device.start``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.api import _pynative_executor

from benchmarks.options import Options
from benchmarks.work import mixed
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.engine import Engine
from ddim_core.sampling.models.load import load_model
from ddim_core.sampling.runner import DeviceRunner, Job

_STEPS = 900
"""Of each sample; more than any benchmark takes."""


class SteadyStep:
    """The slots of a runner hold samples with guidance, every other one with eta 1, and none of them ends."""

    def __init__(self, model: Any, specs: Sequence[SampleSpec], *, slots: int | None = None) -> None:
        """Admit the specs and take a first step, which compiles; slots beyond one for each spec stay empty."""
        self.specs = [replace(spec, num_inference_steps=_STEPS, eta=float(i % 2)) for i, spec in enumerate(specs)]
        self.model = model
        conditions = model.conditions(self.specs)
        self.samples = [
            Job(spec, *pair).sample((spec.height, spec.width))
            for spec, pair in zip(self.specs, conditions, strict=True)
        ]
        self._runner = DeviceRunner(model)
        self._engine: Engine[Job, Tensor] = Engine(self._runner, 2 * (slots or len(specs)))
        for sample in self.samples:
            self._engine.submit(sample)
        self.step()
        self._alone = _Compiled(model.denoiser)
        self._inputs = self.denoiser_inputs()

    def step(self) -> None:
        """Take one step, and wait for the device."""
        self._engine.step()
        synchronize()

    def admit(self) -> None:
        """Write the first sample into its lanes once more, and wait for the device."""
        self._runner.admit(self.samples[0])
        synchronize()

    def denoise(self) -> None:
        """Call the compiled denoiser alone, and wait for the device."""
        self._alone(*self._inputs)
        synchronize()

    def denoiser_inputs(self) -> tuple[Tensor, ...]:
        """Return x, timesteps and conditions for all lanes, of the shapes that the denoiser has in a step."""
        spec = self.specs[0]
        lanes = [conditions for pair in self.model.conditions(self.specs) for conditions in pair]
        shape = (len(lanes), *self.model.latent_shape(spec.height, spec.width))
        x = Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
        timesteps = Tensor(np.full(len(lanes), 500, np.float32))
        return x, timesteps, *(ops.stack(list(parts)) for parts in zip(*lanes, strict=True))


def synchronize() -> None:
    """Wait for the device; a compiled graph may still run when its call has returned, also on the CPU."""
    _pynative_executor.sync()  # ms.runtime.synchronize refuses the CPU
    if ms.get_context("device_target") != "CPU":
        ms.runtime.synchronize()


def load(options: Options) -> SteadyStep:
    """Return the step of the checkpoint that the options name."""
    settings = options.settings
    model = load_model(options.info, settings.dtype_on_device, flash_attention=settings.flash_attention)
    return SteadyStep(model, mixed(options.info, options.slots))


class _Compiled(nn.Cell):
    """A denoiser as a graph of its own."""

    def __init__(self, denoiser: nn.Cell) -> None:
        super().__init__()
        self.denoiser = denoiser

    @ms.jit(jit_level="O0")
    def construct(self, x: Tensor, timestep: Tensor, *conditions: Tensor) -> Tensor:
        return self.denoiser(x, timestep, *conditions)
