"""Notes in Redis on the images of a run that may have killed a process or broken a device.

A note is made before its image is put on the device, so that whoever dies of the image leaves it behind. All notes may
be lost with Redis: then the search for the culprit begins anew, at the cost of more deaths.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from redis import Redis

from ddim_core.contracts.queue import NOTES_S, RunKeys
from ddim_core.errors import DeadlineExceededError, DeviceError, FleetError, WorkerLostError
from workers.coordination.connection import Board

LIMIT = 5
"""How often the process must have died with an image on the device, before that is a failed row: once in a small group,
then four times alone. A person, a host or the kernel may kill a process at any time, whatever it is making: with three,
one of 2,000 images was a failed row after a hundred random kills, in one of four tries."""
BREAKS = 3
"""How often, where the last time the device said itself that it failed, with the image alone on it."""

_REASONS: tuple[type[FleetError], ...] = (DeviceError, DeadlineExceededError)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What is known of an image."""

    count: int | None = None
    """How often it was on a device that failed; 0: it was on one since, and did no harm; None: nothing is known."""
    reason: FleetError | None = None
    """What the device said last, if it could."""

    @property
    def is_proven(self) -> bool:
        """Whether the image is not to be tried again."""
        return (self.count or 0) >= LIMIT

    def error(self) -> FleetError:
        """Return why the image cannot be made."""
        if self.reason is not None:
            return self.reason
        return WorkerLostError(f"the worker died {self.count} times with this image on its device, at last alone there")


class Suspects:
    """The notes on the images of one run; without Redis nothing is known of any, and every note is dropped."""

    def __init__(self, board: Board, keys: RunKeys) -> None:
        """Take notes under the run's keys."""
        self._board = board
        self._keys = keys

    def of(self, images: Sequence[str]) -> list[Suspicion]:
        """Return what is known of these images, by their keys."""

        def look(redis: Redis) -> list[Suspicion]:
            counts = redis.hmget(self._keys.suspects, list(images))
            reasons = redis.hmget(self._keys.reasons, list(images))
            return [
                # A note that was taken back after Redis had lost it is below zero.
                Suspicion(None if count is None else max(0, int(count)), None if reason is None else _read(str(reason)))
                for count, reason in zip(counts, reasons, strict=True)
            ]

        return self._board.ask(look, otherwise=[Suspicion()] * len(images)) if images else []

    def suspect(self, images: Sequence[str]) -> list[int]:
        """Hold it against images that they are put on the device now; return how often that was done to each."""

        def note(redis: Redis) -> list[int]:
            with redis.pipeline() as pipe:
                for image in images:
                    pipe.hincrby(self._keys.suspects, image, 1)
                pipe.hdel(self._keys.reasons, *images)
                pipe.expire(self._keys.suspects, NOTES_S)
                return [int(count) for count in pipe.execute()[: len(images)]]

        return self._board.ask(note, otherwise=[1] * len(images))

    def acquit(self, images: Sequence[str]) -> None:
        """Note that device and process have outlived the images."""

        def note(redis: Redis) -> None:
            with redis.pipeline() as pipe:
                pipe.hset(self._keys.suspects, mapping=dict.fromkeys(images, 0))
                pipe.expire(self._keys.suspects, NOTES_S)
                pipe.execute()

        self._board.ask(note, otherwise=None)

    def excuse(self, images: Sequence[str], unknown: Collection[str] = ()) -> None:
        """Take the last note back: what came was no fault of the images, and says nothing for them either.

        Of those that were ``unknown`` before, nothing is known again.
        """

        def note(redis: Redis) -> None:
            with redis.pipeline() as pipe:
                for image in images:
                    if image in unknown:
                        pipe.hdel(self._keys.suspects, image)
                    else:
                        pipe.hincrby(self._keys.suspects, image, -1)
                pipe.expire(self._keys.suspects, NOTES_S)
                pipe.execute()

        self._board.ask(note, otherwise=None)

    def accuse(self, image: str, reason: FleetError, *, proven: bool = False) -> bool:
        """Note why the device failed with the image alone on it; return whether Redis took the note.

        Args:
            image: Its key.
            reason: A ``DeviceError`` or a ``DeadlineExceededError``.
            proven: The image is not to be tried again.
        """

        def note(redis: Redis) -> bool:
            with redis.pipeline() as pipe:
                pipe.hset(self._keys.reasons, image, json.dumps([reason.code, str(reason)]))
                if proven:
                    pipe.hset(self._keys.suspects, image, LIMIT)
                for key in (self._keys.reasons, self._keys.suspects):
                    pipe.expire(key, NOTES_S)
                pipe.execute()
            return True

        return self._board.ask(note, otherwise=False)


def _read(reason: str) -> FleetError:
    code, message = json.loads(reason)
    return next(kind for kind in _REASONS if kind.code == code)(message)
