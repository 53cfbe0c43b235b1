"""A chunk that a device or a process did not survive: which of its images does that?

Its images get the device to themselves, first in groups that fill the device's slots, then those of a group that did
not return one by one, until the culprit stands alone. Whatever kills, breaks or stops the device leaves a note behind
(``workers.coordination.suspects``), and an image that has enough of them is a failed row and is not made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ddim_core.contracts.plan import ChunkItem
from ddim_core.errors import DeviceError, SuspectedError
from workers.chunks.maker import ChunkMaker
from workers.chunks.on_device import OnDevice
from workers.chunks.records import Made
from workers.coordination.suspects import BREAKS, LIMIT, Suspects, Suspicion


@dataclass(slots=True)
class Trial:
    """One attempt at such a chunk. Nothing else may be on the device meanwhile."""

    maker: ChunkMaker
    suspects: Suspects
    on_device: OnDevice
    group_size: int
    """As many images as the device takes at once: a group costs no more time than they do."""
    _rows: dict[str, Made] = field(default_factory=dict, init=False)

    def make(self, items: Sequence[ChunkItem]) -> list[Made]:
        """Return the rows of all items in their order.

        Those most likely to end the attempt go first, those that did no harm before last: so the next attempt, if
        there must be one, has the least to make again.

        Raises:
            SuspectedError: The device failed, which is noted against the images that it had.
            Exception: Whatever else ``ChunkMaker.make`` raises, which is no image's fault.
        """
        keys = [item.key for item in items]
        known = dict(zip(keys, self.suspects.of(keys), strict=True))
        for item in items:
            if known[item.key].is_proven:
                self._rows[item.key] = self.maker.fail(item, known[item.key].error())
        for group in _groups(items, known, self.group_size):
            self._try(group, [item.key for item in group if known[item.key].count is None])
        return [self._rows[key] for key in keys]

    def _try(self, group: Sequence[ChunkItem], unknown: Sequence[str]) -> None:
        images = [item.key for item in group]
        counts = self.suspects.suspect(images)
        alone = len(group) == 1
        with self.on_device.on_trial(self.suspects, images, unknown) as trying:
            try:
                made = self.maker.make(group, fails_device=alone and counts[0] >= BREAKS)
            except DeviceError as exc:
                if alone:
                    self.suspects.accuse(images[0], exc)
                raise SuspectedError(str(exc)) from exc
            except Exception:
                trying.excuse()
                raise
        self._settle(made)

    def _settle(self, made: Sequence[Made]) -> None:
        """Note who did no harm; who broke the device stays known, lest the next attempt fails of it again."""
        for row in made:
            self._rows[row.record.key] = row
            if row.record.error_code == DeviceError.code:
                self.suspects.accuse(row.record.key, DeviceError(row.record.error_message), proven=True)
        harmless = [row.record.key for row in made if row.record.error_code != DeviceError.code]
        if harmless:
            self.suspects.acquit(harmless)


def _groups(items: Iterable[ChunkItem], known: dict[str, Suspicion], size: int) -> Iterator[Sequence[ChunkItem]]:
    """Yield who is to be on the device together: suspects alone, then those nothing is known of, then the harmless."""
    left = [(known[item.key].count, item) for item in items if not known[item.key].is_proven]
    for count in range(LIMIT - 1, 0, -1):
        yield from ([item] for times, item in left if times == count)
    for unsuspected in (None, 0):
        rest = [item for times, item in left if times == unsuspected]
        yield from (rest[start : start + size] for start in range(0, len(rest), size))
