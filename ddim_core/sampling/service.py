"""Images from sample specs: one thread owns MindSpore, everyone else hands it specs and waits for futures.

Importing this module does not import MindSpore; the thread does, so that a worker can bind itself to its cores first.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from ddim_core.checkpoints import CheckpointInfo, describe
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.errors import DeviceError, FleetError, InputError
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.sampling.ticket import Ticket

if TYPE_CHECKING:
    from ddim_core.sampling.session import Session

logger = logging.getLogger(__name__)

_ALIVE_CHECK_S = 0.5


@dataclass(frozen=True, slots=True)
class Counters:
    """What a service has done since it was ready."""

    images: int
    steps: int
    """Denoising steps of the whole batch."""
    occupancy: float
    """Share of the lanes that held a running sample, over all steps, in [0, 1]."""
    seconds: dict[str, float]
    """Seconds of the thread by stage: ``load``, ``warm_up``, ``text``, ``denoise``, ``decode``, ``idle``."""


class SamplingService:
    """Makes images on one device; satisfies ``contracts.sample.Sampler``.

    >>> with SamplingService(SamplingSettings(checkpoint=folder)) as service:
    ...     image = service.submit(spec).result()
    """

    def __init__(self, settings: SamplingSettings) -> None:
        self.settings = settings
        self.info: CheckpointInfo = describe(settings.checkpoint)
        self._inbox: queue.Queue[Ticket | None] = queue.Queue(settings.queue_limit)
        self._ready: Future[None] = Future()
        self._closing = threading.Event()
        self._abandon = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="sampling", daemon=True)
        self._session: Session | None = None
        self._idle_s = 0.0
        self._load_s = 0.0

    def start(self) -> SamplingService:
        """Start the thread and wait until the graphs for the default size are compiled.

        Raises:
            HostError: MindSpore cannot use the device.
            CheckpointError: The checkpoint cannot be loaded.
            DeviceError: The device failed on the first picture.
        """
        self._thread.start()
        self._ready.result()
        return self

    def submit(self, spec: SampleSpec) -> Future[SampledImage]:
        """Queue one sample; blocks while the bounded queue is full.

        The future fails with ``SampleError`` when this sample alone failed and with ``DeviceError`` when the device
        did. Cancelling it works until its image is there, and frees its lanes at the next step.

        Raises:
            InputError: The size does not fit the checkpoint.
            DeviceError: The service is closed, or its thread ended.
        """
        self._check_size(spec)
        ticket = Ticket(spec, Future())
        self._put(ticket)
        return ticket.future

    def counters(self) -> Counters:
        """Return what was done so far."""
        session = self._session
        if session is None:
            return Counters(0, 0, 0.0, {})
        counts, lanes = session.counts, 2 * self.settings.slots
        return Counters(
            images=counts["images"],
            steps=counts["steps"],
            occupancy=counts["lane_steps"] / (counts["steps"] * lanes) if counts["steps"] else 0.0,
            seconds={**session.seconds, "idle": self._idle_s, "load": self._load_s},
        )

    def close(self, *, drain: bool = True) -> None:
        """Stop; with ``drain``, once all that was submitted is done, otherwise cancel the rest between two steps."""
        if not drain:
            self._abandon.set()
        if not self._closing.is_set() and self._thread.is_alive():
            self._put(None)
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._cancel_inbox()

    def __enter__(self) -> SamplingService:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(drain=error is None)

    def _check_size(self, spec: SampleSpec) -> None:
        factor = self.info.vae_scale_factor
        for name, value in (("height", spec.height), ("width", spec.width)):
            if value < factor or value % factor:
                raise InputError(f"{name} must be a positive multiple of {factor} for this checkpoint, got {value}")

    def _put(self, ticket: Ticket | None) -> None:
        while self._thread.is_alive() and not self._closing.is_set():
            try:
                self._inbox.put(ticket, timeout=_ALIVE_CHECK_S)
            except queue.Full:
                continue
            return
        raise DeviceError("the sampling service must be running to take samples, got one that was closed or failed")

    def _serve(self) -> None:
        try:
            session = self._open()
        except BaseException as error:
            self._ready.set_exception(error if isinstance(error, FleetError) else _startup_error(error))
            return
        self._session = session
        self._ready.set_result(None)
        try:
            self._loop(session)
        finally:
            for ticket in session.abandon():
                ticket.future.cancel()
            self._cancel_inbox()

    def _open(self) -> Session:
        began = time.monotonic()
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning OpenMP threads starve their neighbours
        # In this order: mindone takes its kernels when it is imported, and the device decides which there are.
        from ddim_core.sampling import device

        settings = self.settings
        device.start(settings.device, settings.device_index, cpu_threads=settings.cpu_threads)
        with device.quiet_import():
            from ddim_core.sampling.session import Session

        session = Session(settings, self.info)
        self._load_s = time.monotonic() - began - session.seconds["warm_up"]
        return session

    def _loop(self, session: Session) -> None:
        more = True
        while not self._abandon.is_set() and (more or not session.idle):
            tickets: list[Ticket] = []
            if more:
                tickets, more = self._receive(session)
            outcomes = session.submit(tickets) if tickets else []
            if not session.idle:
                outcomes += session.step()
            for outcome in outcomes:
                outcome.deliver()

    def _receive(self, session: Session) -> tuple[list[Ticket], bool]:
        """Return the tickets the session has room for, waiting for one when it is idle; and whether more may come."""
        tickets: list[Ticket] = []
        while len(tickets) < session.room:
            wait = session.idle and not tickets
            began = time.monotonic()
            try:
                ticket = self._inbox.get(block=wait)
            except queue.Empty:
                break
            self._idle_s += time.monotonic() - began
            if ticket is None:
                return tickets, False
            tickets.append(ticket)
        return tickets, True

    def _cancel_inbox(self) -> None:
        while True:
            try:
                ticket = self._inbox.get_nowait()
            except queue.Empty:
                return
            if ticket is not None:
                ticket.future.cancel()


def _startup_error(error: BaseException) -> FleetError:
    from ddim_core.sampling.device import device_error

    return device_error(error if isinstance(error, Exception) else RuntimeError(repr(error)))
