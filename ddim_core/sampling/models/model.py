"""What a checkpoint gives to the sampling loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from mindspore import Tensor, nn

from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.noise import Float32Array
from ddim_core.sampling.step import Conditions

LatentShape: TypeAlias = tuple[int, int, int]
"""[C, h, w]."""
Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One image from the decoder."""

    pixels: npt.NDArray[np.uint8]
    """RGB, [height, width, 3]."""
    finite: bool
    """Whether every value was a number; the pixels mean nothing otherwise."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Images that the decoder was asked for; on Ascend the device may still be at them."""

    pixels: Tensor
    """RGB, uint8 [B, height, width, 3]; only the first ``count`` are asked for."""
    finite: Tensor
    """Whether every value was a number, bool [B]."""
    count: int

    def read(self) -> list[Decoded]:
        """Return the images; waits for the device."""
        pixels, finite = self.pixels.asnumpy(), self.finite.asnumpy()
        return [Decoded(pixels[i], bool(finite[i])) for i in range(self.count)]


class Model(Protocol):
    """The networks of one checkpoint on the device."""

    @property
    def denoiser(self) -> nn.Cell:
        """A cell as ``DenoisingStep`` takes it."""

    def latent_shape(self, height: int, width: int) -> LatentShape:
        """Return the shape of the latents of a picture of that many pixels."""

    def check(self, spec: SampleSpec) -> None:
        """Make sure that there are conditions for a spec.

        Raises:
            SampleError: There are none: ``PromptTooLongError`` for a text that its windows do not hold.
        """

    def conditions(self, specs: Sequence[SampleSpec]) -> list[tuple[Conditions, Conditions]]:
        """Return for each spec what its denoiser is given, and what for the output that guidance leads away from.

        Their number, shapes and dtypes are those of the checkpoint: the same for every spec of as many windows.
        """

    def decode(self, latents: Sequence[Tensor], batch: int) -> Decoding:
        """Ask for the pictures of latents [C, h, w], at most ``batch`` of them; on Ascend it does not wait for them."""

    def encode(self, pixels: Pixels) -> Float32Array:
        """Return the latents [C, h, w] of a picture, RGB [height, width, 3]; it waits for the device.

        Raises:
            SampleError: The checkpoint's pictures cannot be encoded, or not this one.
        """

    def call_eagerly(self) -> None:
        """Call the denoiser once, uncompiled: a thread other than the main one cannot compile before.

        Without it the compiler stops with "__input_key_2__ is not defined".
        """
