"""What becomes of the images of a chunk when the sampler, the device or the store fails. Redis is away throughout."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.record import FAILED, SUCCESS
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.errors import DeviceError, InputError, OutOfMemoryError, RunHaltedError, SampleError, StorageError
from ddim_core.storage.run_folder import RunFolder
from tests.unit.workers.samples import ScriptedSampler, items, loaded, picture, records
from workers.chunks.maker import BATCHES_IN_BETWEEN, ChunkMaker
from workers.chunks.progress import Progress
from workers.coordination.connection import Board
from workers.coordination.run_notes import Tally
from workers.meter import Meter


@pytest.fixture
def encoders() -> Iterator[ThreadPoolExecutor]:
    """Give two encoder threads."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def make(sampler: ScriptedSampler, folder: Path, encoders: ThreadPoolExecutor, **options: object) -> ChunkMaker:
    """Return the maker of a chunk of six images."""
    container = str(options.pop("container", "webdataset"))
    tally = Tally(Board("redis://127.0.0.1:1/0"), "run-0001")
    return ChunkMaker(
        RunFolder(str(folder)),
        0,
        loaded(sampler),
        encoders,
        records(6, container=container),
        Progress(tally, 0, Meter()),
        limits=limits if isinstance(limits := options.get("limits"), Limits) else NO_LIMITS,
    )


def test_rows_come_in_the_order_of_their_keys(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """Whatever order they were finished in."""
    rows = make(ScriptedSampler(), tmp_path, encoders).make(items(6))
    assert [row.record.key for row in rows] == [item.key for item in items(6)]
    assert {row.record.status for row in rows} == {SUCCESS}


@pytest.mark.parametrize(
    "error", [SampleError("NaN"), OutOfMemoryError("no room"), InputError("height must be even"), ValueError("a bug")]
)
def test_an_image_that_fails_alone_is_a_failed_row(
    tmp_path: Path, encoders: ThreadPoolExecutor, error: Exception
) -> None:
    """The others go on; the row names the class and the message."""
    rows = make(ScriptedSampler(failing_at(2, error)), tmp_path, encoders).make(items(6))
    assert [row.record.status for row in rows].count(FAILED) == 1
    assert (rows[2].record.error_class, rows[2].record.error_message) == (type(error).__name__, str(error))
    assert rows[2].image is None and rows[2].record.sha256 is None


def test_an_image_beyond_the_operators_limits_is_a_failed_row_and_never_sampled(
    tmp_path: Path, encoders: ThreadPoolExecutor
) -> None:
    """Another version's producer may have queued it, or none at all; the row has rule and value."""
    sampler = ScriptedSampler()
    limits = Limits(max_num_inference_steps=1, max_side_px=1)
    rows = make(sampler, tmp_path, encoders, limits=limits).make(items(6))
    assert {row.record.status for row in rows} == {FAILED}
    assert {row.record.error_class for row in rows} == {"LimitExceededError"}
    message = rows[0].record.error_message or ""
    assert message.startswith("num_inference_steps must be at most 1 on this fleet, got "), message
    assert "; height must be at most 1 px on this fleet, got " in message
    assert sampler.submitted == []


@pytest.mark.parametrize("error", [DeviceError("lost"), CancelledError("closed"), StorageError("away")])
def test_what_is_no_images_fault_ends_the_attempt(
    tmp_path: Path, encoders: ThreadPoolExecutor, error: Exception
) -> None:
    """A broken device must not turn a run into failed rows."""
    with pytest.raises(type(error)):
        make(ScriptedSampler(failing_at(2, error)), tmp_path, encoders).make(items(6))


def test_an_attempt_that_ends_leaves_nothing_on_the_device(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """Another chunk may have the device to itself next, to find out which of its images kills workers."""
    held: list[Future[SampledImage]] = []

    class Breaking(ScriptedSampler):
        def submit(self, spec: SampleSpec) -> Future[SampledImage]:
            if spec.image_index == 3:
                raise StorageError("away")
            held.append(Future())
            if spec.image_index == 0:
                held[0].set_result(picture(spec))
            return held[-1]

    (tmp_path / "images").write_text("a file where the store wants a folder")
    with pytest.raises(StorageError):
        make(Breaking(), tmp_path, encoders, container="imagefolder").make(items(6))
    assert all(image.cancelled() for image in held[1:])


def test_a_devices_error_is_the_images_own_where_that_is_said(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """By then other devices have failed with it too; the next call is like the first again."""
    maker = make(ScriptedSampler(failing_at(2, DeviceError("lost"))), tmp_path, encoders)
    rows = maker.make(items(6), fails_device=True)
    assert [row.record.error_code for row in rows] == [None, None, "device_failed", None, None, None]
    with pytest.raises(DeviceError):
        maker.make(items(6))


def test_images_are_on_the_device_until_they_come_back(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """However they end; a store that is slow to take them is no device that stands still."""
    maker = make(ScriptedSampler(), tmp_path, encoders)

    def look(spec: SampleSpec) -> SampledImage:
        if spec.image_index == 1:
            raise InputError("height must be even")
        return picture(spec)

    maker.loaded.sampler.answer = look  # type: ignore[attr-defined]
    assert not maker.on_device.is_busy
    maker.make(items(6))
    assert not maker.on_device.is_busy
    held: list[Future[SampledImage]] = []
    maker.loaded.sampler.submit = lambda spec: held.append(Future()) or held[-1]  # type: ignore
    waiting = threading.Thread(target=lambda: maker.make(items(6)), daemon=True)
    waiting.start()
    while len(held) < 6:
        waiting.join(0.01)
    assert maker.on_device.is_busy
    for future, item in zip(held, items(6), strict=True):
        future.set_result(picture(item.spec))
    waiting.join(5)
    assert not maker.on_device.is_busy


def test_a_refused_submission_fails_that_image_alone(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """A sampler checks sizes at once."""

    class Strict(ScriptedSampler):
        def submit(self, spec: SampleSpec) -> Future[SampledImage]:
            if spec.image_index == 1:
                raise InputError("height must be a multiple of 8")
            return super().submit(spec)

    rows = make(Strict(), tmp_path, encoders).make(items(6))
    assert [row.record.status for row in rows].count(FAILED) == 1


def test_images_between_submission_and_encoding_have_a_ceiling(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """A chunk of thousands must not lie in memory as pixels: submission waits for the encoders."""
    waiting: list[Future[SampledImage]] = []

    class Held(ScriptedSampler):
        def submit(self, spec: SampleSpec) -> Future[SampledImage]:
            waiting.append(Future())
            self.submitted.append(spec)
            return waiting[-1]

    sampler = Held()
    maker = make(sampler, tmp_path, encoders)
    done = threading.Thread(target=lambda: maker.make(items(20)), daemon=True)
    done.start()
    done.join(0.3)
    ceiling = BATCHES_IN_BETWEEN * 2  # the sampler has two slots
    assert len(sampler.submitted) == ceiling
    answered = 0
    while done.is_alive():
        for future, spec in zip(waiting[answered:], sampler.submitted[answered:], strict=False):
            future.set_result(picture(spec))
            answered += 1
        done.join(0.01)
    assert answered == 20


def test_an_imagefolder_gets_its_images_at_once(tmp_path: Path, encoders: ThreadPoolExecutor) -> None:
    """They need not wait in memory for a shard."""
    rows = make(ScriptedSampler(), tmp_path, encoders, container="imagefolder").make(items(6))
    assert {row.image for row in rows} == {None}
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [f"{item.key}.png" for item in items(6)]


def failing_at(image: int, error: Exception) -> Callable[[SampleSpec], SampledImage]:
    """Return an answer that raises for one image of the request."""

    def answer(spec: SampleSpec) -> SampledImage:
        if spec.image_index == image:
            raise error
        return picture(spec)

    return answer


def test_a_chunk_that_is_stopped_ends_with_the_reason_and_frees_the_device(
    tmp_path: Path, encoders: ThreadPoolExecutor
) -> None:
    """Whether it waits for room or for its last images; nothing of it is left in the sampler's queue."""
    submitted: list[Future[SampledImage]] = []

    class Held(ScriptedSampler):
        def submit(self, spec: SampleSpec) -> Future[SampledImage]:
            submitted.append(Future())
            return submitted[-1]

    for count in (20, 6):  # more than there is room for, and fewer
        maker = make(Held(), tmp_path, encoders)
        timer = threading.Timer(0.1, maker.stop, [RunHaltedError("the run was cancelled")])
        timer.start()
        with pytest.raises(RunHaltedError):
            maker.make(items(count))
        timer.join()
        assert all(image.cancelled() for image in submitted)
        with pytest.raises(RunHaltedError):
            maker.make(items(1))


def test_a_failed_row_shows_no_secret_that_an_error_quotes() -> None:
    """Rows stay for ever, and are read by others than logs are."""
    maker = replace(records(1), secrets=("hunter2-secret",))
    row = maker.failure(items(1)[0], ValueError("sent hunter2-secret to http://me:word@host"))
    assert row.error_message == "sent *** to http://***:***@host"
    assert "hunter2" not in repr(maker)
