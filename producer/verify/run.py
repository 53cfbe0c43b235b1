"""All of a finished run against its manifest."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice

from ddim_core.contracts.manifest import FileEntry
from ddim_core.errors import RunUnfinishedError
from ddim_core.storage.run_folder import MANIFEST, RunFolder, part_path, shard_path, stats_path
from producer.verify.chunk import Checked, ChunkCheck
from producer.verify.faults import RunFault, check_file

BUCKET_READERS = 16
"""Objects of a bucket read at once, so that its delay is not waited for."""
_WINDOW_PER_READER = 4
"""Checks begun before the first of them is told; memory holds no more of a run than these."""
_FILES_AT_A_TIME = 64
"""Small files that one thread checks: handing each over by itself would take longer than hashing it."""
_FOLDERS = ("shards", "images", "parts", "latents")


class RunCheck:
    """Compares what is in a finished run's folder with its manifest."""

    def __init__(self, folder: RunFolder) -> None:
        """Read plan and manifest.

        Raises:
            RunNotFoundError: The folder holds no run.
            RunUnfinishedError: The run has no manifest yet.
            StorageError: The store failed, or plan or manifest are damaged.
        """
        self._folder = folder
        self.plan = folder.read_plan()
        manifest = folder.read_manifest()
        if manifest is None:
            done = len(folder.committed_chunks())
            raise RunUnfinishedError(
                f"the run must be finished, got {done} of {self.plan.chunk_count} chunks and no {MANIFEST} "
                f"at {folder.url}; to finish it: ddim-fleet resume {folder.url}"
            )
        self.manifest = manifest
        self._listed = {entry.path: entry for entry in manifest.files}

    @property
    def url(self) -> str:
        """The run's folder."""
        return self._folder.url

    @property
    def size_bytes(self) -> int:
        """What the files of the manifest add up to."""
        return sum(entry.size_bytes for entry in self.manifest.files)

    def faults(self) -> Iterator[RunFault]:
        """Yield everything that is wrong, by chunk.

        Raises:
            StorageError: The store failed, which says nothing of the run.
        """
        images, sound = 0, True
        for path, times in Counter(entry.path for entry in self.manifest.files).items():
            if times > 1:
                yield RunFault(MANIFEST, path, "must be listed once", f"{times} times")
        for checked in _at_once(self._checks(), _readers(self.url)):
            images += checked.images
            sound = sound and not checked.faults
            yield from checked.faults
        yield from self._unlisted()
        if sound:  # otherwise the count says again that something is missing
            yield from self._wrong_totals(images)

    def _checks(self) -> Iterator[Callable[[], Checked]]:
        by_chunks = set()
        for chunk in range(self.plan.chunk_count):
            by_chunks |= {part_path(chunk), shard_path(chunk)}
            yield ChunkCheck(self._folder.store, self.plan, chunk, self._listed)
        others = (entry for path, entry in self._listed.items() if path not in by_chunks)
        while some := list(islice(others, _FILES_AT_A_TIME)):
            yield partial(self._check_files, some)

    def _check_files(self, entries: list[FileEntry]) -> Checked:
        return Checked([fault for entry in entries for fault in check_file(self._folder.store, entry)])

    def _unlisted(self) -> Iterator[RunFault]:
        """Yield what lies among the images and parts without being in the manifest: loaders would read it."""
        expected = {stats_path(chunk) for chunk in range(self.plan.chunk_count)}
        for prefix in _FOLDERS:
            for path, size_bytes in self._folder.store.list(prefix):
                if path not in self._listed and path not in expected:
                    yield RunFault(path, None, f"must be listed in {MANIFEST}", f"{size_bytes} bytes that are not")

    def _wrong_totals(self, images: int) -> Iterator[RunFault]:
        total = self.manifest.images + self.manifest.failed
        if total != self.plan.image_count:
            yield RunFault(MANIFEST, None, f"must count {self.plan.image_count} images, made and failed", str(total))
        if self.manifest.images != images:
            yield RunFault(
                MANIFEST, None, f"must count {images} images made, as the parts do", str(self.manifest.images)
            )


def _readers(url: str) -> int:
    """Return how many threads shall read: hashing leaves Python's lock, so a folder is read by all cores.

    By no more: threads that take the lock from each other at every small file cost twice the time.
    """
    return len(os.sched_getaffinity(0)) if url.startswith("file:") else BUCKET_READERS


def _at_once(checks: Iterable[Callable[[], Checked]], readers: int) -> Iterator[Checked]:
    """Yield what the checks come to, in their order, with a few of them under way."""
    pool = ThreadPoolExecutor(readers, thread_name_prefix="verify")
    begun: deque[Future[Checked]] = deque()
    try:
        for check in checks:
            begun.append(pool.submit(check))
            if len(begun) >= _WINDOW_PER_READER * readers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
