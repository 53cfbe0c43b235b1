"""The images of one chunk: submitted to the sampler, encoded as they come, with a ceiling on what is in between."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.manifest import FileEntry
from ddim_core.contracts.plan import ChunkItem
from ddim_core.contracts.sample import SampledImage
from ddim_core.errors import DeviceError, FleetError, LimitExceededError, OutOfMemoryError, SampleError, StorageError
from ddim_core.storage.image_names import image_path
from ddim_core.storage.run_folder import RunFolder, file_entry, latents_path, shard_path
from workers.chunks.encode import encode_image, encode_latents
from workers.chunks.input_images import with_picture
from workers.chunks.long_prompts import refuse_too_long
from workers.chunks.on_device import OnDevice
from workers.chunks.progress import Progress
from workers.chunks.records import Made, RecordMaker
from workers.samplers.samplers import LoadedSampler
from workers.store_watch import StoreWatch

log = logging.getLogger(__name__)

BATCHES_IN_BETWEEN = 4
"""Batches of images of a chunk between submission and encoding: enough to keep the slots full, few enough to hold."""


@dataclass(slots=True)
class ChunkMaker:
    """Makes the images of one attempt at a chunk.

    An image that fails alone becomes a failed row. What says nothing of the image (a broken device, a closed sampler, a
    store that does not answer) ends the attempt.
    """

    folder: RunFolder
    chunk: int
    loaded: LoadedSampler
    encoders: ThreadPoolExecutor
    records: RecordMaker
    progress: Progress
    on_device: OnDevice = field(default_factory=OnDevice)
    """Of the whole process."""
    stores: StoreWatch = field(default_factory=StoreWatch)
    limits: Limits = NO_LIMITS
    """An image whose request is beyond them becomes a failed row."""
    _fails_device: bool = field(default=False, init=False)
    _room: threading.Semaphore = field(init=False)
    _ended_by: BaseException | None = field(default=None, init=False)
    _stopped_by: FleetError | None = field(default=None, init=False)
    _submitted: set[Future[SampledImage]] = field(default_factory=set, init=False)
    """Submitted and not yet there."""

    def __post_init__(self) -> None:
        """Set the ceiling by the sampler's batch."""
        self._room = threading.Semaphore(BATCHES_IN_BETWEEN * self.loaded.facts.slots)

    def make(self, items: Iterable[ChunkItem], *, fails_device: bool = False) -> list[Made]:
        """Return the rows of all items in their order.

        A lack of memory is an image's own fault: the sampler has tried it in a batch of its own by then.

        Args:
            items: What to make.
            fails_device: A failure of the device is the images' fault too: they are failed rows then.

        Raises:
            DeviceError: The device failed and others may do better.
            CancelledError: The sampler was closed.
            StorageError: An image could not be written.
            FleetError: What ``stop`` was given.
        """
        self._fails_device = fails_device
        try:
            return self._make(items)
        except Exception:
            self._clear_device()
            if self._stopped_by is not None:
                raise self._stopped_by from None
            raise

    def stop(self, why: FleetError) -> None:
        """End the attempt with ``why``, from any thread; what the device is at for it is dropped at the next step."""
        self._stopped_by = self._ended_by = why
        self._clear_device()

    def _clear_device(self) -> None:
        for sampled in self._submitted.copy():
            sampled.cancel()

    def _make(self, items: Iterable[ChunkItem]) -> list[Made]:
        pending = []
        for item in items:
            self._room.acquire()
            if self._ended_by is not None:
                raise self._ended_by
            pending.append(self._start(item))
        return [made.result() for made in pending]

    def _start(self, item: ChunkItem) -> Future[Made]:
        made: Future[Made] = Future()
        try:
            self._refuse_beyond_limits(item)
            refuse_too_long(item.spec, self.loaded.prompts)
            item = item.model_copy(update={"spec": with_picture(item.spec, self._read)})
            sampled = self.loaded.sampler.submit(item.spec)
        except FleetError as exc:
            sampled = Future()
            sampled.set_exception(exc)
        self._submitted.add(sampled)
        self.on_device.add()
        sampled.add_done_callback(lambda done: self._encode_later(item, done, made))
        if self._stopped_by is not None:  # ``stop`` may have looked a moment before
            sampled.cancel()
        return made

    def _refuse_beyond_limits(self, item: ChunkItem) -> None:
        """Raise LimitExceededError for a request that this fleet's producers would refuse: another may have sent it."""
        broken = [f"{name} {rule}" if name else rule for name, rule in self.limits.faults(item.request)]
        if broken:
            raise LimitExceededError("; ".join(broken))

    def _encode_later(self, item: ChunkItem, sampled: Future[SampledImage], made: Future[Made]) -> None:
        """Leave the sampler's thread at once: it has a device to feed."""
        self._submitted.discard(sampled)
        self.on_device.remove(device_failed=_is_of_device(sampled))
        try:
            self.encoders.submit(self._complete, item, sampled, made)
        except RuntimeError as exc:  # the encoders were shut down
            self._end(made, exc)

    def _complete(self, item: ChunkItem, sampled: Future[SampledImage], made: Future[Made]) -> None:
        try:
            made.set_result(self._row(item, sampled))
        except BaseException as exc:  # a future must end, or its chunk waits for ever
            self._end(made, exc)
        else:
            self._room.release()

    def _end(self, made: Future[Made], exc: BaseException) -> None:
        self._ended_by = exc
        made.set_exception(exc)
        self._room.release()

    def _row(self, item: ChunkItem, sampled: Future[SampledImage]) -> Made:
        try:
            image = sampled.result()
        except Exception as exc:
            if isinstance(exc, CancelledError | StorageError) or self._is_the_devices(exc):
                raise
            return self.fail(item, exc)
        return self._encoded(item, image)

    def _is_the_devices(self, exc: Exception) -> bool:
        """Return whether an exception says more of the device than of the image."""
        return isinstance(exc, DeviceError) and not (self._fails_device or isinstance(exc, OutOfMemoryError))

    def fail(self, item: ChunkItem, exc: BaseException) -> Made:
        """Return the row of an image that cannot be made, and count it."""
        self.progress.add(made=False)
        return Made(self.records.failure(item, exc), None)

    def _encoded(self, item: ChunkItem, image: SampledImage) -> Made:
        plan = self.records.plan
        try:
            data = encode_image(image.pixels, plan.encoding)
        except SampleError as exc:
            return self.fail(item, exc)
        latents = None if image.latents is None else self._latents(item, image.latents)
        if plan.container == "webdataset":
            made = Made(self.records.success(item, data, shard_path(self.chunk), image, latents), data)
        else:
            path = image_path(plan, item.key, str(item.request.custom_id), item.image)
            self._write(path, data)
            made = Made(self.records.success(item, data, path, image, latents), None)
        self.progress.add(made=True)
        log.debug("an image is made", extra={"action": "image_made", "run": plan.run_id, "key": item.key})
        return made

    def _latents(self, item: ChunkItem, latents: npt.NDArray[np.float32]) -> FileEntry:
        """Write an inverted picture's x_T: an object of its own, as all samples of a shard must have the same files."""
        data = encode_latents(latents)
        path = latents_path(item.key)
        self._write(path, data)
        return file_entry(path, data)

    def _read(self, path: str) -> bytes:
        url, store = self.folder.url, self.folder.store
        return self.stores.insist(url, lambda: store.get(path), self._has_ended, size_bytes=None)

    def _write(self, path: str, data: bytes) -> None:
        """Write an image for as long as it takes: it is made, and the sampler waits meanwhile for want of room."""
        self.stores.insist(
            self.folder.url, lambda: self.folder.store.put(path, data), self._has_ended, size_bytes=len(data)
        )

    def _has_ended(self) -> bool:
        return self._ended_by is not None


def _is_of_device(sampled: Future[SampledImage]) -> bool:
    return not sampled.cancelled() and isinstance(sampled.exception(), DeviceError)
