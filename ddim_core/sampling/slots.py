"""How many slots the batch of a shape has: as many as were asked for, or what the device's memory has room for."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ddim_core.contracts.sample import BatchShape
from ddim_core.errors import OutOfMemoryError

logger = logging.getLogger(__name__)


class Slots:
    """The slots of every shape met so far.

    A shape's first number is a guess from those that were measured, in proportion to its pixels; a measurement, or a
    device that has no memory left, halves it. So the slots of a shape are the number asked for, or a half of it, a
    quarter and so on, which keeps the batches few in which equal requests may be made.

    More windows of text need more memory, but little of it: a picture's attention to itself, over thousands of its
    pixels, outweighs that to 77 tokens a window. So windows do not enter the proportion; a shape is guessed from those
    with as many windows or fewer, and what more of them need is found by measuring.
    """

    def __init__(self, most: int, *, base_bytes: int = 0, limit_bytes: int | None = None) -> None:
        """Begin with ``most`` for every shape.

        Args:
            most: What was asked for.
            base_bytes: In use before any batch: the weights.
            limit_bytes: What may be in use while a batch runs; None for no limit.
        """
        self._most = most
        self._base_bytes = base_bytes
        self._limit_bytes = limit_bytes
        self._bytes_per_pixel: dict[int, float] = {}  # of one slot, by windows, of the size that needed most
        self._of: dict[BatchShape, int] = {}
        self._too_large: set[BatchShape] = set()
        self.halved = 0
        """How often a shape got fewer slots than it had."""

    @property
    def by_shape(self) -> Mapping[BatchShape, int]:
        """The slots of every shape met so far."""
        return self._of

    def of(self, shape: BatchShape) -> int:
        """Return how many slots a shape has."""
        if shape not in self._of:
            self._of[shape] = self._guess(shape)
        return self._of[shape]

    def check(self, shape: BatchShape) -> None:
        """Make sure that the device was not found to have no room for one slot of a shape.

        Raises:
            OutOfMemoryError: It was. MindSpore 2.7.1 must not be asked again: the second run of a graph that was out of
                memory fails in another way ("Invalid output number for flatten stub output nodes").
        """
        if shape in self._too_large:
            raise OutOfMemoryError(f"the device must have memory for one image of {shape}, and it has not")

    def halve(self, shape: BatchShape) -> bool:
        """Give a shape half of its slots; False where it has one, and is too large from now on."""
        slots = self.of(shape) // 2
        if slots == 0:
            self._too_large.add(shape)
            return False
        self._of[shape] = slots
        self.halved += 1
        logger.warning(
            "the slots of a size were halved for want of memory",
            extra={"action": "slots_halved", "size": str(shape), "slots": slots},
        )
        return True

    def measured(self, shape: BatchShape, peak_bytes: int) -> bool:
        """Learn what a batch of a shape needed; return whether it may stay, having halved its slots if not."""
        needed = (peak_bytes - self._base_bytes) / _pixels(shape, self.of(shape))
        self._bytes_per_pixel[shape.windows] = max(self._bytes_per_pixel.get(shape.windows, 0.0), needed)
        too_much = self._limit_bytes is not None and peak_bytes > self._limit_bytes
        return not (too_much and self.of(shape) > 1 and self.halve(shape))

    def _guess(self, shape: BatchShape) -> int:
        known = [needed for windows, needed in self._bytes_per_pixel.items() if windows <= shape.windows]
        slots = self._most
        while slots > 1 and self._limit_bytes is not None:
            if self._base_bytes + _pixels(shape, slots) * max(known, default=0.0) <= self._limit_bytes:
                break
            slots //= 2
        return slots


def _pixels(shape: BatchShape, slots: int) -> int:
    return slots * shape.size.height * shape.size.width
