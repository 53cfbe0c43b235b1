"""Noise drawn ahead of need, in a thread of its own: the thread that owns MindSpore takes it and does not wait."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future

import numpy as np

from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.noise import Float32Array, initial_noise, step_noise

_PAGE_BYTES = 2**21
"""Two pages for each of 16 lanes are 64 MiB on the device."""
_MOST_STEPS = 32


def page_steps(shape: Sequence[int]) -> int:
    """Return how many steps' noise makes a page for latents of this shape: 32 for 64x64 of them, 8 for 128x128."""
    return min(_MOST_STEPS, max(1, _PAGE_BYTES // (4 * math.prod(shape))))


class SampleNoise:
    """The noise of one sample: its x_T, and with eta above 0 that of its steps, a page of steps at a time.

    The values are those of ``noise``; here is only when they are drawn.
    """

    def __init__(self, spec: SampleSpec, shape: Sequence[int], executor: Executor) -> None:
        """Begin to draw what is needed when the sample gets its lanes; ``shape`` is that of its latents, [C, h, w]."""
        self._spec = spec
        self._shape = tuple(shape)
        self._executor = executor
        self._page_steps = page_steps(shape)
        self._initial = executor.submit(initial_noise, spec.seed, spec.image_index, self._shape)
        self._pages: dict[int, Future[Float32Array]] = {}
        self._begin(0)

    @property
    def initial(self) -> Float32Array:
        """x_T, [C, h, w]."""
        return self._initial.result()

    def has_page(self, number: int) -> bool:
        """Return whether the sample has steps that need the page."""
        return self._spec.eta > 0 and number * self._page_steps < self._spec.num_inference_steps

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
        for step in range(first, min(first + self._page_steps, self._spec.num_inference_steps)):
            page[step - first] = step_noise(self._spec.seed, self._spec.image_index, step, self._shape)
        return page
