"""How the image that kills workers or breaks devices is found, and nobody else is blamed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ddim_core.contracts.plan import ChunkItem
from ddim_core.contracts.queue import RunKeys
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.errors import (
    DeadlineExceededError,
    DeviceError,
    FleetError,
    OutOfMemoryError,
    SampleError,
    StorageError,
    SuspectedError,
)
from ddim_core.storage.run_folder import RunFolder
from tests.unit.workers.samples import ScriptedSampler, items, loaded, picture, records
from workers.chunks.maker import ChunkMaker
from workers.chunks.on_device import OnDevice
from workers.chunks.progress import Progress
from workers.chunks.trial import Trial
from workers.coordination.connection import Board
from workers.coordination.run_notes import Tally
from workers.coordination.suspects import LIMIT, Suspects, Suspicion
from workers.meter import Meter

IMAGES, SLOTS = 6, 2
BOARD, KEYS = Board("redis://127.0.0.1:1/0"), RunKeys("run-0001")


class DiedError(BaseException):
    """Stands in for the end of the process: nothing of it is caught or noted."""


class Remembered(Suspects):
    """Notes that are kept in memory and survive a process, as Redis does."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.reasons: dict[str, FleetError] = {}
        self.is_away = False

    def of(self, images: Sequence[str]) -> list[Suspicion]:
        """Return what is known."""
        return [Suspicion(self.counts.get(image), self.reasons.get(image)) for image in images]

    def suspect(self, images: Sequence[str]) -> list[int]:
        """Add one to each."""
        for image in images:
            self.counts[image] = self.counts.get(image, 0) + 1
            self.reasons.pop(image, None)
        return [self.counts[image] for image in images]

    def acquit(self, images: Sequence[str]) -> None:
        """Set to 0."""
        self.counts |= dict.fromkeys(images, 0)

    def excuse(self, images: Sequence[str], unknown: Collection[str] = ()) -> None:
        """Take one from each, or all that is known."""
        for image in images:
            self.counts[image] -= 1
            if image in unknown:
                del self.counts[image]

    def accuse(self, image: str, reason: FleetError, *, proven: bool = False) -> bool:
        """Keep the reason."""
        if not self.is_away:
            self.reasons[image] = reason
            if proven:
                self.counts[image] = LIMIT
        return not self.is_away


@dataclass
class Fleet:
    """Processes that follow one another at one chunk, and the notes that they leave."""

    folder: RunFolder
    encoders: ThreadPoolExecutor
    suspects: Remembered = field(default_factory=Remembered)
    on_device: OnDevice = field(default_factory=OnDevice)
    groups: list[list[int]] = field(default_factory=list)
    """Images that were on the device together, by their index, in all attempts."""
    deaths: int = 0

    def attempt(self, answer: Callable[[SampleSpec], SampledImage]) -> list[str | None]:
        """Have one process try; return the codes of the rows."""
        maker = ChunkMaker(
            self.folder,
            0,
            loaded(ScriptedSampler(answer)),
            self.encoders,
            records(IMAGES),
            Progress(Tally(BOARD, "run-0001"), 0, Meter()),
            self.on_device,
        )
        make = maker.make

        def noted(group: Sequence[ChunkItem], *, fails_device: bool = False) -> list[object]:
            self.groups.append([item.spec.image_index for item in group])
            return make(group, fails_device=fails_device)  # type: ignore[return-value]

        trial = Trial(_Noted(maker, noted), self.suspects, self.on_device, SLOTS)  # type: ignore[arg-type]
        return [row.record.error_code for row in trial.make(items(IMAGES))]

    def until_done(self, answer: Callable[[SampleSpec], SampledImage], limit: int = 50) -> list[str | None]:
        """Have one process after the other try, as long as they die or their devices break; return the codes."""
        for _ in range(limit):
            try:
                return self.attempt(answer)
            except (DiedError, SuspectedError):
                self.deaths += 1
        raise AssertionError(f"no attempt of {limit} got through: {self.groups}")


class _Noted:
    """A maker whose calls are noted."""

    def __init__(self, maker: ChunkMaker, make: Callable[..., list[object]]) -> None:
        self.make = make
        self.fail = maker.fail


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Give a chunk of six images on devices of two slots."""
    with ThreadPoolExecutor(2) as encoders:
        yield Fleet(RunFolder(str(tmp_path)), encoders)


def kills(*images: int) -> Callable[[SampleSpec], SampledImage]:
    """Return an answer that ends the process at these images."""
    return raises(DiedError(), *images)


def raises(error: BaseException, *images: int) -> Callable[[SampleSpec], SampledImage]:
    """Return an answer that raises at these images."""

    def answer(spec: SampleSpec) -> SampledImage:
        if spec.image_index in images:
            raise error
        return picture(spec)

    return answer


def test_a_killer_is_found_by_one_death_in_a_group_and_four_alone(fleet: Fleet) -> None:
    """The rest is made, and what did no harm before goes last, so that no death loses it again."""
    assert fleet.until_done(kills(3)) == [None, None, None, "worker_lost", None, None]
    assert fleet.deaths == LIMIT
    assert fleet.groups == [[0, 1], [2, 3], [2], [3], [3], [3], [3], [4, 5], [0, 1], [2]]


def test_each_killer_of_many_stands_alone_in_the_end(fleet: Fleet) -> None:
    """Also where a whole group kills."""
    assert fleet.until_done(kills(0, 1, 4)) == ["worker_lost"] * 2 + [None] * 2 + ["worker_lost", None]
    assert fleet.deaths == LIMIT + (LIMIT - 1) + LIMIT
    assert [group for group in fleet.groups if {2, 3} & {*group}] == [[2, 3], [2, 3]]  # not once for each death


def test_a_process_that_dies_twice_by_chance_blames_nobody(fleet: Fleet) -> None:
    """Somebody kills workers, in a group and then alone; the image is made by the third."""
    for _ in range(LIMIT - 1):
        with pytest.raises(DiedError):
            fleet.attempt(kills(0))
    assert fleet.attempt(picture) == [None] * IMAGES
    assert fleet.suspects.counts == {item.key: 0 for item in items(IMAGES)}


def test_an_image_that_breaks_devices_alone_is_a_failed_row_and_stays_known(fleet: Fleet) -> None:
    """A second one does not make the first break a device again, and its row keeps the device's words."""
    assert fleet.until_done(raises(DeviceError("lost"), 1, 4)) == [
        None,
        "device_failed",
        None,
        None,
        "device_failed",
        None,
    ]
    assert fleet.deaths == 4  # each: once in a group, once alone; the second time alone the process lives on
    groups = len(fleet.groups)
    assert fleet.attempt(picture)[1] == "device_failed"
    assert [1] not in fleet.groups[groups:]


def test_what_is_no_images_fault_is_held_against_none(fleet: Fleet) -> None:
    """A store that is away ends the attempt as often as it will."""
    for _ in range(2 * LIMIT):
        with pytest.raises(StorageError):
            fleet.attempt(raises(StorageError("away"), 0, 1))
    assert fleet.suspects.counts == {}


@pytest.mark.parametrize("error", [SampleError("bad"), OutOfMemoryError("no room")])
def test_an_image_that_fails_alone_is_no_suspect(fleet: Fleet, error: FleetError) -> None:
    """It is a failed row at once."""
    codes = fleet.attempt(raises(error, 2))
    assert codes == [None, None, error.code, None, None, None]
    assert set(fleet.suspects.counts.values()) == {0}


def test_a_device_that_hangs_is_laid_to_the_image_that_is_alone_on_it(fleet: Fleet) -> None:
    """Once suffices, since the process says so itself; images in a group are not accused."""
    reason = DeadlineExceededError("it stood still")

    def hang(spec: SampleSpec) -> SampledImage:
        if spec.image_index == 3:
            fleet.on_device.accuse(reason, patience_s=0)
            raise DiedError
        return picture(spec)

    assert fleet.until_done(hang) == [None, None, None, "deadline_exceeded", None, None]
    assert fleet.deaths == 2
    assert not fleet.on_device.accuse(reason, patience_s=0)


def test_a_hang_while_redis_is_away_is_noted_when_it_is_back(fleet: Fleet) -> None:
    """The process hangs anyhow, and has time to wait a little."""
    fleet.suspects.is_away = True
    with fleet.on_device.on_trial(fleet.suspects, ["000000001"]):
        assert not fleet.on_device.accuse(DeadlineExceededError("it stood still"), patience_s=0)
        threading.Timer(0.2, lambda: setattr(fleet.suspects, "is_away", False)).start()
        assert fleet.on_device.accuse(DeadlineExceededError("it stood still"), patience_s=30)
    assert fleet.suspects.counts == {"000000001": LIMIT}


def test_images_that_kill_only_together_are_made_one_by_one(fleet: Fleet) -> None:
    """Such as two that fill the memory: nobody is blamed, and the search comes to an end."""
    on_device: list[int] = []

    def answer(spec: SampleSpec) -> SampledImage:
        on_device.append(spec.image_index)
        if fleet.groups[-1] == [2, 3]:
            raise DiedError
        return picture(spec)

    assert fleet.until_done(answer) == [None] * IMAGES
    assert fleet.deaths == 1


def test_without_redis_a_trial_makes_what_can_be_made(fleet: Fleet) -> None:
    """Nothing is known then, and every note is dropped."""
    suspects = Suspects(BOARD, KEYS)
    assert suspects.of(["000000000"]) == [Suspicion()] and suspects.of([]) == []
    assert suspects.suspect(["000000000", "000000001"]) == [1, 1]
    assert not suspects.accuse("000000000", DeviceError("lost"))
    suspects.acquit(["000000000"])
    suspects.excuse(["000000000"])
