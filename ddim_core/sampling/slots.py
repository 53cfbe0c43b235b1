"""How many slots the batch of a size has: as many as were asked for, or what the device's memory has room for."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ddim_core.contracts.sample import Size
from ddim_core.errors import OutOfMemoryError

logger = logging.getLogger(__name__)


class Slots:
    """The slots of every size met so far.

    A size's first number is a guess from those that were measured, in proportion to its pixels; a measurement, or a
    device that has no memory left, halves it. So the slots of a size are the number asked for, or a half of it, a
    quarter and so on, which keeps the batches few in which equal requests may be made.
    """

    def __init__(self, most: int, *, base_bytes: int = 0, limit_bytes: int | None = None) -> None:
        """Begin with ``most`` for every size.

        Args:
            most: What was asked for.
            base_bytes: In use before any batch: the weights.
            limit_bytes: What may be in use while a batch runs; None for no limit.
        """
        self._most = most
        self._base_bytes = base_bytes
        self._limit_bytes = limit_bytes
        self._bytes_per_pixel = 0.0  # of one slot, by the size that needed most
        self._of: dict[Size, int] = {}
        self._too_large: set[Size] = set()
        self.halved = 0
        """How often a size got fewer slots than it had."""

    @property
    def by_size(self) -> Mapping[Size, int]:
        """The slots of every size met so far."""
        return self._of

    def of(self, size: Size) -> int:
        """Return how many slots a size has."""
        if size not in self._of:
            self._of[size] = self._guess(size)
        return self._of[size]

    def check(self, size: Size) -> None:
        """Make sure that the device was not found to have no room for one slot of a size.

        Raises:
            OutOfMemoryError: It was. MindSpore 2.7.1 must not be asked again: the second run of a graph that was out of
                memory fails in another way ("Invalid output number for flatten stub output nodes").
        """
        if size in self._too_large:
            raise OutOfMemoryError(f"the device must have memory for one image of {size}, and it has not")

    def halve(self, size: Size) -> bool:
        """Give a size half of its slots; False where it has one, and is too large from now on."""
        slots = self.of(size) // 2
        if slots == 0:
            self._too_large.add(size)
            return False
        self._of[size] = slots
        self.halved += 1
        logger.warning(
            "the slots of a size were halved for want of memory",
            extra={"action": "slots_halved", "size": str(size), "slots": slots},
        )
        return True

    def measured(self, size: Size, peak_bytes: int) -> bool:
        """Learn what a batch of a size needed; return whether it may stay, having halved its slots if not."""
        pixels = self.of(size) * size.height * size.width
        self._bytes_per_pixel = max(self._bytes_per_pixel, (peak_bytes - self._base_bytes) / pixels)
        too_much = self._limit_bytes is not None and peak_bytes > self._limit_bytes
        return not (too_much and self.of(size) > 1 and self.halve(size))

    def _guess(self, size: Size) -> int:
        slots = self._most
        while slots > 1 and self._limit_bytes is not None:
            if self._base_bytes + slots * size.height * size.width * self._bytes_per_pixel <= self._limit_bytes:
                break
            slots //= 2
        return slots
