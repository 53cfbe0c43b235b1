"""Images from sample specs: one thread owns MindSpore, everyone else hands it specs and waits for futures.

Importing this module does not import MindSpore; the thread does, so that a worker can bind itself to its cores first.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType

from ddim_core.checkpoints import CheckpointInfo, describe
from ddim_core.checkpoints.pipelines import INVERTIBLE
from ddim_core.contracts.sample import SEED_LIMIT, BatchShape, Counters, SampledImage, SampleSpec
from ddim_core.contracts.start import Picture
from ddim_core.errors import CheckpointError, DeviceError, FleetError, InputError
from ddim_core.sampling.delivery import Deliveries
from ddim_core.sampling.inbox import Entry, Inbox
from ddim_core.sampling.opening import Session, SessionOpener, open_on_device
from ddim_core.sampling.settings import SamplingSettings
from ddim_core.sampling.ticket import Outcome, Preparation, Ticket, late

logger = logging.getLogger(__name__)

_ALIVE_CHECK_S = 0.5


class SamplingService:
    """Makes images on one device; satisfies ``contracts.sample.Sampler``.

    >>> with SamplingService(SamplingSettings(checkpoint=folder)) as service:
    ...     image = service.submit(spec).result()
    """

    def __init__(self, settings: SamplingSettings, open_session: SessionOpener = open_on_device) -> None:
        """Describe the checkpoint; nothing is loaded yet.

        Raises:
            CheckpointError: There is none, none that can be sampled, or none that takes the sizes of the settings.
        """
        self.settings = settings
        self._open_session = open_session
        self.info: CheckpointInfo = describe(settings.checkpoint, settings.variant)
        for size in settings.sizes:
            if not self._takes(BatchShape(size)):
                raise CheckpointError(
                    f"sizes must be ones that the checkpoint takes, got {size} for {settings.checkpoint}"
                )
        self._prepared: set[tuple[BatchShape, str]] = set()
        self._inbox = Inbox(settings.queue_limit)
        self._deliveries = Deliveries()
        self._ready: Future[None] = Future()
        self._closing = threading.Event()
        self._abandon = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="sampling", daemon=True)
        self._session: Session | None = None
        self._idle_s = 0.0
        self._load_s = 0.0

    def start(self) -> SamplingService:
        """Start the thread and wait until the graphs for the first size are compiled; the settings' others follow.

        Raises:
            HostError: MindSpore cannot use the device.
            CheckpointError: The checkpoint cannot be loaded.
            DeviceError: The device failed on the first picture.
        """
        self._thread.start()
        self._ready.result()
        self._deliveries.start()
        return self

    def prepare(self, shapes: Sequence[BatchShape], *, thresholding: bool = False, inverting: bool = False) -> None:
        """Compile what samples of these shapes need, unless that was done; returns when it is.

        That takes seconds to minutes for each. The thread does it between two steps, after what was submitted before.
        Shapes that do not fit the checkpoint are left out: samples of them are refused.

        Raises:
            DeviceError: The device failed, or the service is closed.
        """
        fitting = {shape for shape in shapes if self._takes(shape)}
        graphs = ["plain", *["thresholding"] * thresholding, *["inverting"] * inverting]
        wanted = {(shape, graph) for shape in fitting for graph in graphs}
        if wanted <= self._prepared:
            return
        preparation = Preparation(tuple(sorted(fitting)), thresholding, inverting, Future())
        self._offer(preparation)
        preparation.done.result()
        self._prepared |= wanted

    def submit(self, spec: SampleSpec, deadline_s: float | None = None) -> Future[SampledImage]:
        """Queue one sample; blocks while the bounded queue is full.

        The future fails with ``SampleError`` when this sample alone failed, with ``DeadlineExceededError`` when it was
        not there ``deadline_s`` seconds after the call, and with ``DeviceError`` when the device failed. Cancelling it
        works until its image is there, and frees its lanes at the next step. Its callbacks run in a thread that
        delivers images and does nothing else: a slow one holds up other images, and no device.

        Raises:
            InputError: Size or windows do not fit the checkpoint, or the seed or the step count is out of range.
            DeviceError: The service is closed, or its thread ended.
        """
        self._check(spec)
        ticket = Ticket(spec, Future(), math.inf if deadline_s is None else time.monotonic() + deadline_s)
        self._offer(ticket)
        return ticket.future

    def counters(self) -> Counters:
        """Return what was done so far."""
        if self._session is None:
            return Counters()
        counters = self._session.counters()
        return replace(counters, seconds={**counters.seconds, "idle": self._idle_s, "load": self._load_s})

    def close(self, *, drain: bool = True) -> None:
        """Stop; with ``drain``, once all that was submitted is done, otherwise cancel the rest between two steps."""
        if not drain:
            self._abandon.set()
        if not self._closing.is_set() and self._thread.is_alive():
            self._put(None)
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        self._inbox.cancel()
        self._deliveries.close()

    def __enter__(self) -> SamplingService:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(drain=error is None)

    def _check(self, spec: SampleSpec) -> None:
        """Refuse what would fail in the thread that others' samples depend on."""
        self._check_shape(spec.batch_shape)
        if spec.windows != 1 and spec.long_prompts != "chunk":
            raise InputError(f"windows must be 1 where long prompts are not chunked, got {spec.windows}")
        self._check_class(spec)
        self._check_start(spec)
        if not 0 <= spec.seed < SEED_LIMIT or spec.image_index < 0:
            raise InputError(
                f"seed must be from 0 to {SEED_LIMIT - 1}, got {spec.seed}; image_index {spec.image_index}"
            )
        if spec.num_inference_steps < 1:
            raise InputError(f"num_inference_steps must be at least 1, got {spec.num_inference_steps}")

    def _check_shape(self, shape: BatchShape) -> None:
        for name, value in shape.size._asdict().items():
            if (rule := self.info.size_fault(name, value)) is not None:
                raise InputError(f"{name} {rule} for this checkpoint, got {value}")
        if self.info.takes != "prompt" and shape.windows != 1:
            raise InputError(f"windows must be 1 for a checkpoint that takes {self.info.takes}, got {shape.windows}")
        if shape.windows < 1:
            raise InputError(f"windows must be at least 1, got {shape.windows}")

    def _check_class(self, spec: SampleSpec) -> None:
        labels, label = self.info.labels, spec.class_label
        if labels is None and label is not None:
            raise InputError(f"class_label must be None for a checkpoint that takes {self.info.takes}, got {label}")
        if labels is not None and (label is None or not 0 <= label < labels.count):
            raise InputError(f"class_label must be from 0 to {labels.count - 1} for this checkpoint, got {label}")

    def _check_start(self, spec: SampleSpec) -> None:
        if not isinstance(spec.start, Picture):
            return
        if not self.info.inverts:
            raise InputError(f"a picture can be inverted with {INVERTIBLE} alone, got a {self.info.pipeline}")
        pixels = spec.start.pixels
        if pixels is None or pixels.shape != (spec.height, spec.width, 3):
            got = "none" if pixels is None else f"shape {pixels.shape}"
            raise InputError(f"a picture must have pixels of shape {(spec.height, spec.width, 3)}, got {got}")

    def _takes(self, shape: BatchShape) -> bool:
        try:
            self._check_shape(shape)
        except InputError:
            return False
        return True

    def _offer(self, entry: Entry) -> None:
        if not self._put(entry):
            raise DeviceError("the sampling service must be running to take samples, got one that was closed or failed")

    def _put(self, entry: Entry) -> bool:
        """Put an entry into the inbox, waiting for room; return False when nobody is there to take it."""
        while self._thread.is_alive() and not self._closing.is_set():
            try:
                self._inbox.put(entry, timeout=_ALIVE_CHECK_S)
            except queue.Full:
                continue
            if not self._thread.is_alive():  # it may have ended after its last look into the inbox
                self._inbox.cancel()
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
        self._load_s = time.monotonic() - began - session.counters().seconds.get("warm_up", 0.0)
        logger.info("ready to sample", extra={"action": "sampling_ready", "load_s": round(self._load_s, 1)})
        self._ready.set_result(None)
        try:
            if len(self.settings.sizes) > 1:
                others = tuple(map(BatchShape, self.settings.sizes[1:]))
                session.prepare(others, thresholding=self.info.schedule.thresholding)
            self._loop(session)
        except Exception as error:
            logger.exception("sampling ended", extra={"action": "sampling_failed"})
            ended = DeviceError(f"the sampling thread ended: {error!r}")
            self._deliveries.send(Outcome(ticket, error=ended) for ticket in session.unfinished())
        else:
            for ticket in session.unfinished():
                ticket.future.cancel()
        self._inbox.cancel()

    def _loop(self, session: Session) -> None:
        more = True
        while not self._abandon.is_set() and (more or not session.idle):
            tickets: list[Ticket] = []
            if more:
                tickets, more = self._receive(session)
            self._deliveries.send(session.submit(tickets) if tickets else [])
            if not session.idle:
                self._deliveries.send(session.step())
            self._deliveries.send(map(late, self._inbox.expire()))

    def _receive(self, session: Session) -> tuple[list[Ticket], bool]:
        """Return the tickets the session has room for, waiting for one when it is idle; and whether more may come."""
        tickets: list[Ticket] = []
        while len(tickets) < session.room:
            wait = session.idle and not tickets
            began = time.monotonic()
            try:
                entry = self._inbox.get(block=wait)
            except queue.Empty:
                break
            self._idle_s += time.monotonic() - began
            if entry is None:
                return tickets, False
            if isinstance(entry, Preparation):
                _prepare(session, entry)
            else:
                tickets.append(entry)
        return tickets, True


def _prepare(session: Session, preparation: Preparation) -> None:
    try:
        session.prepare(preparation.shapes, thresholding=preparation.thresholding, inverting=preparation.inverting)
    except FleetError as error:
        preparation.done.set_exception(error)
    except BaseException:
        preparation.done.cancel()
        raise
    else:
        preparation.done.set_result(None)
