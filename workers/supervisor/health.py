"""The health of this host's NPUs while they are served, as ``npu-smi`` tells it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping

from ddim_core.errors import HostError
from workers.devices.host import look_around
from workers.devices.npu_smi import HEALTHY, UNKNOWN

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 60.0
LOOKS = 2
"""An NPU that is bad twice in a row is taken out of service: a reset shows as Alarm for a moment."""


def npu_health() -> dict[str, str]:
    """Return the health of every NPU by its label, such as ``npu:3``.

    Raises:
        HostError: ``npu-smi`` fails or hangs.
    """
    host = look_around()
    return {f"npu:{chip.logic_id}": host.health_of(chip) for chip in host.chips}


class HealthWatch:
    """Looks at the NPUs again and again, and says which of them have been bad for long enough."""

    def __init__(self, look: Callable[[], Mapping[str, str]] = npu_health) -> None:
        """Look by ``look``, which may take as long as ``npu-smi`` may hang."""
        self._look = look
        self._bad: Counter[str] = Counter()
        self.unfit: Mapping[str, str] = {}
        """What ``npu-smi`` says of each device that shall not be served."""

    def taken_out(self, label: str) -> None:
        """Forget what was seen of a device: once somebody puts it back, two new looks decide."""
        self._bad[label] = 0
        self.unfit = {other: state for other, state in self.unfit.items() if other != label}

    def look(self) -> None:
        """Look once."""
        try:
            health = self._look()
        except HostError as exc:
            log.warning("the health of NPUs cannot be read", extra={"action": "health_unknown", "error": str(exc)})
            return
        for label, state in health.items():
            # UNKNOWN is neither: a process that hangs with its driver is found by its own standstill.
            self._bad[label] = 0 if state in HEALTHY else self._bad[label] + (state != UNKNOWN)
        self.unfit = {label: health[label] for label, times in self._bad.items() if times >= LOOKS and label in health}
