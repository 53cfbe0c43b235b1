"""What the models have in common: a denoiser that works on latents, a decoder of them, and in some an encoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import mindspore as ms
from mindspore import Tensor, nn, ops

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.checkpoints.pipelines import INVERTIBLE
from ddim_core.contracts.sample import SampleSpec
from ddim_core.errors import SampleError
from ddim_core.sampling.models.decoder import decode
from ddim_core.sampling.models.encoder import encode
from ddim_core.sampling.models.model import Decoding, LatentShape, Pixels
from ddim_core.sampling.noise import Float32Array
from ddim_core.sampling.step import Conditions
from ddim_core.sampling.windows import TokenWindows


class DenoisedLatents(ABC):
    """A checkpoint's networks; what differs is the conditions, and what a denoiser does with them."""

    def __init__(
        self,
        info: CheckpointInfo,
        denoiser: nn.Cell,
        decoder: nn.Cell,
        encoder: nn.Cell | None = None,
        windows: Sequence[TokenWindows] = (),
    ) -> None:
        self._info = info
        self._windows = windows
        self._decoder = decoder
        self._encoder = encoder
        self.denoiser = denoiser

    def latent_shape(self, height: int, width: int) -> LatentShape:
        """Return [C, h, w] of the latents of a picture of that many pixels."""
        factor = self._info.vae_scale_factor
        return self._info.latent_channels, height // factor, width // factor

    def check(self, spec: SampleSpec) -> None:
        """Make sure that the windows of a spec hold its texts, those of every text encoder that there is.

        Raises:
            PromptTooLongError: They do not.
        """
        for windows in self._windows:
            windows.check(spec)

    @abstractmethod
    def conditions(self, specs: Sequence[SampleSpec]) -> list[tuple[Conditions, Conditions]]:
        """Return for each spec what its denoiser is given, and what for the output that guidance leads away from."""

    def decode(self, latents: Sequence[Tensor], batch: int) -> Decoding:
        """Ask for the pictures of latents [C, h, w], at most ``batch`` of them."""
        return decode(self._decoder, latents, batch)

    def encode(self, pixels: Pixels) -> Float32Array:
        """Return the latents [C, h, w] of a picture, RGB [height, width, 3].

        Raises:
            SampleError: They are not made of numbers, or the checkpoint's pictures cannot be encoded.
        """
        if self._encoder is None:
            raise SampleError(f"a picture can be inverted with {INVERTIBLE} alone, not with a {self._info.pipeline}")
        return encode(self._encoder, pixels)

    def call_eagerly(self) -> None:
        """Call the denoiser once, uncompiled: a thread other than the main one cannot compile before."""
        height, width = self._info.default_height, self._info.default_width
        blank = SampleSpec("", "", 0, 0, 1, 1.0, 0.0, 0.0, height, width, self._info.schedule)
        [(conditions, _)] = self.conditions([blank])
        x = ops.zeros((1, *self.latent_shape(height, width)), ms.float32)
        batch = [ops.expand_dims(condition, 0) for condition in conditions]
        self.denoiser(x, ops.zeros((1,), ms.float32), *batch).asnumpy()
