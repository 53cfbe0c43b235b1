"""The images of one chunk: submitted to the sampler, encoded as they come, with a ceiling on what is in between."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ddim_core.contracts.manifest import FileEntry
from ddim_core.contracts.plan import ChunkItem
from ddim_core.contracts.sample import SampledImage
from ddim_core.errors import DeviceError, FleetError, SampleError, StorageError
from ddim_core.storage.image_names import image_path
from ddim_core.storage.run_folder import RunFolder, file_entry, latents_path, shard_path
from workers.encode import encode_image, encode_latents
from workers.pictures import with_picture
from workers.records import Made, RecordMaker
from workers.samplers import LoadedSampler
from workers.stores import StoreWatch
from workers.tally import Progress, Tally

BATCHES_IN_BETWEEN = 4
"""Batches of images of a chunk between submission and encoding: enough to keep the slots full, few enough to hold."""
SUSPECT_LIMIT = 2
"""How many workers an image may kill, alone on their device, before it is a failed row; one may have died by chance."""


@dataclass(slots=True)
class ChunkMaker:
    """Makes the images of one attempt at a chunk.

    An image that fails alone becomes a failed row. What says nothing of the image (a broken device, a closed sampler, a
    store that does not answer) ends the attempt; only in the ``last`` one a device's error is the image's own.
    """

    folder: RunFolder
    chunk: int
    loaded: LoadedSampler
    encoders: ThreadPoolExecutor
    records: RecordMaker
    tally: Tally
    progress: Progress
    stores: StoreWatch = field(default_factory=StoreWatch)
    last: bool = False
    _room: threading.Semaphore = field(init=False)
    _ended_by: BaseException | None = field(default=None, init=False)
    _stopped_by: FleetError | None = field(default=None, init=False)
    _on_device: set[Future[SampledImage]] = field(default_factory=set, init=False)
    """Submitted and not yet there."""

    def __post_init__(self) -> None:
        """Set the ceiling by the sampler's batch."""
        self._room = threading.Semaphore(BATCHES_IN_BETWEEN * self.loaded.facts.slots)

    def make(self, items: Iterable[ChunkItem]) -> list[Made]:
        """Return the rows of all items in their order.

        Raises:
            DeviceError: The device failed and others may do better.
            CancelledError: The sampler was closed.
            StorageError: An image could not be written.
            FleetError: What ``stop`` was given.
        """
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
        for sampled in self._on_device.copy():
            sampled.cancel()

    def _make(self, items: Iterable[ChunkItem]) -> list[Made]:
        pending = []
        for item in items:
            self._room.acquire()
            if self._ended_by is not None:
                raise self._ended_by
            pending.append(self._start(item))
        return [made.result() for made in pending]

    def make_one_by_one(self, items: Iterable[ChunkItem]) -> list[Made]:
        """Return the same as ``make``, with each image alone on the device: how to find the one that kills workers."""
        return [self._alone(item) for item in items]

    def _alone(self, item: ChunkItem) -> Made:
        deaths = self.tally.suspect(item.key) - 1
        if deaths >= SUSPECT_LIMIT:  # stays suspected, lest the next attempt dies of it again before it finds another
            return self._failed(item, SampleError(f"the worker died {deaths} times with this image alone on a device"))
        try:
            return self.make([item])[0]
        finally:  # whatever came of it, this process has lived to tell
            self.tally.clear(item.key)

    def _start(self, item: ChunkItem) -> Future[Made]:
        made: Future[Made] = Future()
        try:
            item = item.model_copy(update={"spec": with_picture(item.spec, self._read)})
            sampled = self.loaded.sampler.submit(item.spec)
        except FleetError as exc:
            sampled = Future()
            sampled.set_exception(exc)
        self._on_device.add(sampled)
        sampled.add_done_callback(lambda done: self._encode_later(item, done, made))
        if self._stopped_by is not None:  # ``stop`` may have looked a moment before
            sampled.cancel()
        return made

    def _encode_later(self, item: ChunkItem, sampled: Future[SampledImage], made: Future[Made]) -> None:
        """Leave the sampler's thread at once: it has a device to feed."""
        self._on_device.discard(sampled)
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
            if isinstance(exc, CancelledError | StorageError) or (isinstance(exc, DeviceError) and not self.last):
                raise
            return self._failed(item, exc)
        return self._encoded(item, image)

    def _failed(self, item: ChunkItem, exc: BaseException) -> Made:
        self.progress.add(made=False)
        return Made(self.records.failure(item, exc), None)

    def _encoded(self, item: ChunkItem, image: SampledImage) -> Made:
        plan = self.records.plan
        try:
            data = encode_image(image.pixels, plan.encoding)
        except SampleError as exc:
            return self._failed(item, exc)
        latents = None if image.latents is None else self._latents(item, image.latents)
        if plan.container == "webdataset":
            made = Made(self.records.success(item, data, shard_path(self.chunk), image, latents), data)
        else:
            path = image_path(plan, item.key, str(item.request.custom_id), item.image)
            self._write(path, data)
            made = Made(self.records.success(item, data, path, image, latents), None)
        self.progress.add(made=True)
        return made

    def _latents(self, item: ChunkItem, latents: npt.NDArray[np.float32]) -> FileEntry:
        """Write an inverted picture's x_T: an object of its own, as all samples of a shard must have the same files."""
        data = encode_latents(latents)
        path = latents_path(item.key)
        self._write(path, data)
        return file_entry(path, data)

    def _read(self, path: str) -> bytes:
        return self.stores.insist(self.folder.url, lambda: self.folder.store.get(path), self._has_ended)

    def _write(self, path: str, data: bytes) -> None:
        """Write an image for as long as it takes: it is made, and the sampler waits meanwhile for want of room."""
        self.stores.insist(
            self.folder.url, lambda: self.folder.store.put(path, data), self._has_ended, size_bytes=len(data)
        )

    def _has_ended(self) -> bool:
        return self._ended_by is not None
