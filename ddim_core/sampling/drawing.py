"""Noise drawn ahead of need, in a thread of its own: the thread that owns MindSpore takes it and does not wait."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future

import numpy as np

from ddim_core.contracts.sample import SampleSpec
from ddim_core.contracts.start import Between
from ddim_core.sampling.noise import Float32Array, initial_noise, slerp, step_noise

_PAGE_BYTES = 2**21
"""Two pages for each of 16 lanes are 64 MiB on the device."""
_MOST_STEPS = 32


def page_steps(shape: Sequence[int]) -> int:
    """Return how many steps' noise makes a page for latents of this shape: 32 for 64x64 of them, 8 for 128x128."""
    return min(_MOST_STEPS, max(1, _PAGE_BYTES // (4 * math.prod(shape))))


class SampleNoise:
    """Where one sample begins, which is noise, and with eta above 0 the noise of its steps, a page of steps at a time.

    The values are those of ``noise``; here is only when they are drawn.
    """

    def __init__(
        self, spec: SampleSpec, shape: Sequence[int], executor: Executor, latents: Float32Array | None = None
    ) -> None:
        """Begin to draw what is needed when the sample gets its lanes.

        Args:
            spec: The sample.
            shape: Of its latents, [C, h, w].
            executor: The thread that draws.
            latents: Those of the picture that it begins with, if it does.
        """
        self._spec = spec
        self._shape = tuple(shape)
        self._executor = executor
        self._page_steps = page_steps(shape)
        self._initial = executor.submit(_first, spec, self._shape) if latents is None else None
        self._latents = latents
        self._pages: dict[int, Future[Float32Array]] = {}
        self._begin(0)

    @property
    def initial(self) -> Float32Array:
        """What the first step is taken from, [C, h, w]."""
        if self._initial is not None:
            return self._initial.result()
        assert self._latents is not None
        return self._latents

    def has_page(self, number: int) -> bool:
        """Return whether the sample has steps that need the page."""
        return self._spec.eta > 0 and number * self._page_steps < self._spec.num_steps

    def is_drawn(self, number: int) -> bool:
        """Return whether taking the page would not wait."""
        return number in self._pages and self._pages[number].done()

    def take_page(self, number: int) -> Float32Array:
        """Return the noise of the page's steps, [``page_steps``, C, h, w], and begin with the next page."""
        self._begin(number)  # in case the sample starts anew
        page = self._pages.pop(number)
        self._begin(number + 1)
        return page.result()

    def _begin(self, number: int) -> None:
        if self.has_page(number) and number not in self._pages:
            self._pages[number] = self._executor.submit(self._draw, number)

    def _draw(self, number: int) -> Float32Array:
        page = np.zeros((self._page_steps, *self._shape), np.float32)
        first = number * self._page_steps
        for step in range(first, min(first + self._page_steps, self._spec.num_steps)):
            page[step - first] = step_noise(self._spec.seed, self._spec.image_index, step, self._shape)
        return page


def _first(spec: SampleSpec, shape: tuple[int, ...]) -> Float32Array:
    own = initial_noise(spec.seed, spec.image_index, shape)
    if not isinstance(spec.start, Between):
        return own
    return slerp(own, initial_noise(spec.start.to_seed, 0, shape), spec.start.fraction)
