"""The noise of the next steps on the device, before the steps that add it: a steady step waits for no host."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from ddim_core.sampling.drawing import SampleNoise, page_steps


@dataclass(slots=True)
class _Reader:
    """A sample that takes its noise from here."""

    noise: SampleNoise
    lanes: tuple[int, ...]
    step: int = 0
    pages: int = 0
    """Pages that were sent."""


class NoiseReserve:
    """Planes of noise for the samples with eta above 0 in one bucket's lanes.

    Each sample has room for two pages of planes, at its first lane. While its steps go through one page, the other is
    overwritten with the page after it, which a thread drew meanwhile. Every lane points at a plane, and each plane says
    which one comes next, so a step sends nothing; the last plane is of zeros, leads to itself, and is where lanes
    without noise rest. Both lanes of a sample read the same planes: what is sent is 4 bytes for each latent value and
    step of the sample. One upload in ``page_steps`` steps, and nothing for samples without eta.
    """

    def __init__(self, num_lanes: int, shape: Sequence[int]) -> None:
        self._page_steps = page_steps(shape)
        self._per_lane = 2 * self._page_steps
        self._rest = num_lanes * self._per_lane
        self._planes = Parameter(ops.zeros((self._rest + 1, *shape), ms.float32), requires_grad=False)
        plane = np.arange(self._rest)
        first = plane - plane % self._per_lane
        following = np.append(first + (plane + 1) % self._per_lane, self._rest)
        self._following: np.ndarray[Any, np.dtype[np.int32]] = following.astype(np.int32)
        self._next_plane = Tensor(self._following)
        self._pointers = np.full(num_lanes, self._rest, np.int32)  # the host's copy of what the device has
        self._at = Tensor(self._pointers)
        self._readers: dict[Hashable, _Reader] = {}

    def admit(self, sample: Hashable, noise: SampleNoise, lanes: tuple[int, ...]) -> None:
        """Send a sample's first page, and have its lanes begin there."""
        self._readers[sample] = reader = _Reader(noise, lanes)
        self._send_page(reader)
        self._point(lanes, lanes[0] * self._per_lane)

    def release(self, sample: Hashable) -> None:
        """Let the lanes of a sample rest, if it takes its noise from here."""
        if (reader := self._readers.pop(sample, None)) is not None:
            self._point(reader.lanes, self._rest)

    def next(self) -> Tensor | None:
        """Return the noise of every lane for this step, [L, C, h, w]; None where no lane needs any."""
        if not self._readers:
            return None
        for reader in self._readers.values():
            self._keep_ahead(reader)
        z = ops.gather(self._planes, self._at, 0)
        self._at = ops.gather(self._next_plane, self._at, 0)
        self._pointers = self._following[self._pointers]
        for reader in self._readers.values():
            reader.step += 1
        return z

    def _keep_ahead(self, reader: _Reader) -> None:
        """Send the page after the one the sample is at: once it is drawn, and at this page's last step anyway."""
        page, step = divmod(reader.step, self._page_steps)
        if reader.pages == page + 1 and reader.noise.has_page(page + 1):
            is_last = step == self._page_steps - 1
            if is_last or reader.noise.is_drawn(page + 1):
                self._send_page(reader)

    def _send_page(self, reader: _Reader) -> None:
        first = reader.lanes[0] * self._per_lane + reader.pages % 2 * self._page_steps
        rows = np.arange(first, first + self._page_steps, dtype=np.int32)
        ops.scatter_update(self._planes, Tensor(rows), Tensor(reader.noise.take_page(reader.pages)))
        reader.pages += 1

    def _point(self, lanes: tuple[int, ...], plane: int) -> None:
        self._pointers = self._pointers.copy()  # a tensor may still be reading the array it was made of
        self._pointers[list(lanes)] = plane
        self._at = Tensor(self._pointers)
