"""Images from sample specs: one thread owns MindSpore, everyone else hands it specs and waits for futures.

Importing this module does not import MindSpore; the thread does, so that a worker can bind itself to its cores first.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeAlias

from ddim_core.checkpoints import CheckpointInfo, describe
from ddim_core.contracts.sample import SEED_LIMIT, SampledImage, SampleSpec
from ddim_core.errors import DeviceError, FleetError, HostError, InputError
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.sampling.ticket import Outcome, Ticket

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


class Session(Protocol):
    """The sampling loop that the thread turns; ``session.DeviceSession`` is the one on a device."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Images, steps and lane_steps so far."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds by stage so far."""

    @property
    def room(self) -> int:
        """How many more tickets it would like to have at hand."""

    @property
    def idle(self) -> bool:
        """Whether every ticket has ended."""

    def submit(self, tickets: Sequence[Ticket]) -> list[Outcome]:
        """Take tickets; return those that ended already."""

    def step(self) -> list[Outcome]:
        """Advance by one timestep; return the tickets that ended."""

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


class SamplingService:
    """Makes images on one device; satisfies ``contracts.sample.Sampler``.

    >>> with SamplingService(SamplingSettings(checkpoint=folder)) as service:
    ...     image = service.submit(spec).result()
    """

    def __init__(self, settings: SamplingSettings, open_session: SessionOpener = open_on_device) -> None:
        self.settings = settings
        self._open_session = open_session
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
        did. Cancelling it works until its image is there, and frees its lanes at the next step. Its callbacks run in
        the sampling thread: they must be short, and must not submit, which could wait for that same thread.

        Raises:
            InputError: The size does not fit the checkpoint, or the seed or the step count is out of range.
            DeviceError: The service is closed, or its thread ended.
        """
        self._check(spec)
        ticket = Ticket(spec, Future())
        if not self._offer(ticket):
            raise DeviceError("the sampling service must be running to take samples, got one that was closed or failed")
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
        if not self._closing.is_set():
            self._offer(None)
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

    def _check(self, spec: SampleSpec) -> None:
        """Refuse what would fail in the thread that others' samples depend on."""
        factor = self.info.vae_scale_factor
        for name, value in (("height", spec.height), ("width", spec.width)):
            if value < factor or value % factor:
                raise InputError(f"{name} must be a positive multiple of {factor} for this checkpoint, got {value}")
        if not 0 <= spec.seed < SEED_LIMIT or spec.image_index < 0:
            raise InputError(
                f"seed must be from 0 to {SEED_LIMIT - 1}, got {spec.seed}; image_index {spec.image_index}"
            )
        if spec.num_inference_steps < 1:
            raise InputError(f"num_inference_steps must be at least 1, got {spec.num_inference_steps}")

    def _offer(self, ticket: Ticket | None) -> bool:
        """Put a ticket into the inbox, waiting for room; return False when nobody is there to take it."""
        while self._thread.is_alive() and not self._closing.is_set():
            try:
                self._inbox.put(ticket, timeout=_ALIVE_CHECK_S)
            except queue.Full:
                continue
            if not self._thread.is_alive():  # it may have ended after its last look into the inbox
                self._cancel_inbox()
            return True
        return False

    def _serve(self) -> None:
        began = time.monotonic()
        try:
            session = self._open_session(self.settings, self.info)
        except BaseException as error:  # whatever it is, start() waits for it
            self._ready.set_exception(error)
            return
        self._session = session
        self._load_s = time.monotonic() - began - session.seconds.get("warm_up", 0.0)
        logger.info("ready to sample", extra={"action": "sampling_ready", "load_s": round(self._load_s, 1)})
        self._ready.set_result(None)
        try:
            self._loop(session)
        except Exception as error:
            logger.exception("sampling ended", extra={"action": "sampling_failed"})
            self._fail(session.unfinished(), DeviceError(f"the sampling thread ended: {error!r}"))
        for ticket in session.unfinished():
            ticket.future.cancel()
        self._cancel_inbox()

    def _fail(self, tickets: Sequence[Ticket], error: FleetError) -> None:
        for ticket in tickets:
            Outcome(ticket, error=error).deliver()

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


def _last_line(error: Exception) -> str:
    """Return the line of an import error that names the cause; those before it say what could not be done."""
    return (str(error).splitlines() or [repr(error)])[-1]
