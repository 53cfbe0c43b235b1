"""What checkpoints this host has, looked up beside the work: a folder on a slow disk must not hold up a report."""

from __future__ import annotations

from ddim_core.contracts.checkpoints import CheckpointNote
from workers.periodic import Periodic
from workers.samplers.checkpoints import Checkpoints

LOOK_INTERVAL_S = 60.0
MOST_NOTES = 64
"""In a report, which workers write every few seconds."""


class KnownCheckpoints:
    """The notes of the last look."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        """Look at ``checkpoints``, once ``start`` was called."""
        self._checkpoints = checkpoints
        self._looks = Periodic("checkpoints", LOOK_INTERVAL_S, self.look)
        self.latest: tuple[CheckpointNote, ...] = ()

    def start(self) -> None:
        """Begin to look."""
        self._looks.start()

    def look(self) -> None:
        """Look now."""
        self.latest = self._checkpoints.notes()[:MOST_NOTES]
