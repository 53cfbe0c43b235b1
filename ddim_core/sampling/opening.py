"""What the sampling thread drives, and how it comes by it on a device.

Importing this module does not import MindSpore; ``open_on_device`` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from ddim_core.checkpoints import CheckpointInfo
from ddim_core.contracts.sample import BatchShape, Counters
from ddim_core.errors import HostError
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.sampling.ticket import Outcome, Ticket


class Session(Protocol):
    """The sampling loop that the thread turns; ``session.DeviceSession`` is the one on a device."""

    @property
    def room(self) -> int:
        """How many more tickets it would like to have at hand."""

    @property
    def idle(self) -> bool:
        """Whether every ticket has ended."""

    def counters(self) -> Counters:
        """Return what was done so far; any thread may ask."""

    def prepare(self, shapes: Sequence[BatchShape], *, thresholding: bool, inverting: bool = False) -> None:
        """Compile what samples of these shapes need."""

    def submit(self, tickets: Sequence[Ticket]) -> list[Outcome]:
        """Take tickets; return those that ended already."""

    def step(self) -> list[Outcome]:
        """Advance by one timestep; return the tickets that ended, those whose deadline has passed included."""

    def unfinished(self) -> list[Ticket]:
        """Return the tickets that have not ended."""


SessionOpener: TypeAlias = Callable[[SamplingSettings, CheckpointInfo], Session]


def open_on_device(settings: SamplingSettings, info: CheckpointInfo) -> Session:
    """Bind the process to the device and load the checkpoint; call it in the thread that will own MindSpore.

    Raises:
        HostError: MindSpore is not installed or cannot use the device.
        CheckpointError: The checkpoint cannot be loaded.
        DeviceError: The device failed on the first picture.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning OpenMP threads starve their neighbours
    try:
        # In this order: mindone takes its kernels when it is imported, and the device decides which there are.
        from ddim_core.sampling import device

        device.start(settings.device, settings.device_index, cpu_threads=settings.cpu_threads)
        with device.quiet_import():
            from ddim_core.sampling.session import DeviceSession
    except (ImportError, RuntimeError) as error:  # mindone turns what its own imports raise into RuntimeError
        raise HostError(
            f"MindSpore and mindone must be installed and work together, got: {_last_line(error)}; "
            "pip install ddim-fleet[worker]"
        ) from error
    return DeviceSession(settings, info)


def _last_line(error: Exception) -> str:
    """Return the line of an import error that names the cause; those before it say what could not be done."""
    return (str(error).splitlines() or [repr(error)])[-1]
