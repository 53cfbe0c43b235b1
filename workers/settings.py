"""What a worker process was told, as one value that is made at the entry point and passed on."""

from __future__ import annotations

import signal
import socket
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ddim_core.contracts.limits import Limits
from ddim_core.contracts.queue import DEFAULT_QUEUE
from ddim_core.contracts.sample import SIZE_PATTERN

EXIT_OK, EXIT_UNUSABLE, EXIT_FAILED, EXIT_NO_HOST = 0, 1, 2, 3
"""How a worker process ends: drained; told what cannot be used; in a way that a restart may mend; on a host that cannot
run it. The second and the fourth no restart would mend."""

DRAIN_TIMEOUT_S = 1800.0
"""Time for what is in hand when a worker is asked to end. A service manager must wait longer before it kills."""
GIVE_BACK_S = 15.0
"""Time for giving back what was not finished by then."""

CHUNKS_IN_FLIGHT = 2
"""The tail of one chunk overlaps the head of the next, so that the slots stay full; more only holds more memory."""


STALL_TIMEOUT_S = 1800.0
"""Longer than any step or graph took."""


class Device(BaseModel):
    """A device that one worker process serves, with the cores and the environment that go with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """``npu``, ``cpu`` or ``sim``."""
    index: int = Field(ge=0)
    """The NPU's logic id; otherwise a number from 0."""
    name: str = ""
    """The chip's name, where there is one."""
    cores: tuple[int, ...] = ()
    """Cores that the process binds itself to; empty: all that it finds."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables that must be set before the process starts."""
    step_ms: float = Field(default=0.0, ge=0.0)
    """Of a simulated device: how long one step of its batch takes."""

    @property
    def label(self) -> str:
        """The device as people name it, such as ``npu:3``."""
        return f"{self.kind}:{self.index}"


class SamplerSettings(BaseModel):
    """How a process that samples shall do it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Device
    models: tuple[str, ...] = ()
    """Folders that hold checkpoints, besides those that the package brings."""
    slots: int | None = Field(default=None, ge=1)
    """Batch shape of the denoiser; None: the device's default."""
    decode_batch: int | None = Field(default=None, ge=1)
    """Images decoded together; None: the device's default."""
    sizes: tuple[Annotated[str, Field(pattern=SIZE_PATTERN)], ...] = ()
    """``WIDTHxHEIGHT`` to compile before the first chunk; empty: the checkpoint's default size."""
    memory_limit_bytes: int | None = Field(default=None, ge=1)
    """Which the slots of a size must fit; None: the device's own, and no limit on the CPU."""


class WorkerSettings(SamplerSettings):
    """All that a worker process is told. It travels on standard input, because a broker URL may hold a password."""

    broker_url: str = Field(repr=False)
    host: str = Field(default_factory=socket.gethostname)
    """The name under which it is reported, drained and put back."""
    queue: str = DEFAULT_QUEUE
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Where this process answers a monitor; None: nowhere."""
    metrics_host: str = "127.0.0.1"
    chunks_in_flight: int = Field(default=CHUNKS_IN_FLIGHT, ge=1)
    drain_timeout_s: float = Field(default=DRAIN_TIMEOUT_S, ge=0.0)
    """How long chunks in hand may go on after a signal to end; then they are given back."""
    limits: Limits = Limits()
    """What the operator allows requests and runs to ask for."""
    stall_timeout_s: float = Field(default=STALL_TIMEOUT_S, gt=0)
    """How long a device with images on it may make no step before its process is ended."""
    log_level: str = "INFO"
    pulse_descriptor: int | None = Field(default=None, ge=0)
    """A pipe to the launcher for signs of work; None: there is none."""
    parent_pid: int = 0
    """The process to end with; 0: none."""

    def worker_id(self, pid: int) -> str:
        """Return the name under which the process ``pid`` of this host serves the device."""
        return f"{self.host}/{self.device.label}/{pid}"


GIVE_BACK_SIGNAL = signal.SIGUSR1
"""From the launcher, which may be in a hurry from the start: of two SIGTERMs that come together one gets lost."""
