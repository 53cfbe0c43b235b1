"""The denoising step with its update as one kernel, which passes over lanes at rest."""

from __future__ import annotations

from typing import Any

import mindspore as ms
from mindspore import Tensor, nn

from ddim_core.sampling.bank import COLUMNS
from ddim_core.sampling.fused.operators import Operators, operators, settings
from ddim_core.sampling.step import DenoisingStep


def denoising_step(denoiser: nn.Cell, *, thresholding: bool = False) -> DenoisingStep:
    """Return the step of a denoiser, fused where this process has the kernels for it."""
    kernels = operators()
    if kernels is None:
        return DenoisingStep(denoiser, thresholding=thresholding)
    whole = getattr(getattr(denoiser, "unet", None), "fused_whole", False)  # ``swap.fuse`` says so
    return FusedStep(denoiser, kernels, thresholding=thresholding, whole=whole)


class FusedStep(DenoisingStep):
    """What ``DenoisingStep`` computes, by ``csrc/step.cc``, which reads the same bank and state."""

    def __init__(self, denoiser: nn.Cell, kernels: Operators, *, thresholding: bool, whole: bool) -> None:
        """Make the step of a denoiser.

        Args:
            denoiser: As ``DenoisingStep`` takes it.
            kernels: The loaded ones.
            thresholding: Build the graph with dynamic thresholding.
            whole: Whether all of the denoiser is fused: then lanes at rest are left out of it, too.
        """
        super().__init__(denoiser, thresholding=thresholding)
        assert len(COLUMNS) == 12, "csrc/step.cc counts the columns of a row"
        self.marks, self.with_thresholding = settings(whole), settings(thresholding)
        self.lane_x = kernels.make("lane_x")
        self.lane_t = kernels.make("lane_t")
        self.update = kernels.make("update")

    @ms.jit(jit_level="O0")
    def construct(self, state: Tensor, bank: Tensor, z: Tensor, *conditions: Any) -> Tensor:  # noqa: D102
        x = self.lane_x(state, self.marks, z)
        t = self.lane_t(state, self.marks, bank)
        out = self.denoiser(x, t, *conditions)
        return self.update(out.astype(ms.float32), self.with_thresholding, state, bank, z)
