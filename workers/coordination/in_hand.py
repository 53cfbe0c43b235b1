"""Where a run's chunks are, as far as Redis knows: with a worker, on their way to one, or missing.

All of it is in Redis, so that whichever worker reconciles next goes on where the last one died.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from redis import Redis

from ddim_core.contracts.queue import NOTES_S, RunKeys
from workers.coordination.connection import Board

MISSING_S = 600
"""How long a look for missing chunks is remembered: longer than the pause between two looks at a long queue."""
LOOKS_APART_S = 2.0
"""A message takes less from the queue to its lease, so a chunk on its way is not missed by two looks so far apart."""


class Whereabouts:
    """The reconciler's notes on one run. Without Redis every chunk seems to be seen to."""

    def __init__(self, board: Board, run_id: str) -> None:
        """Read and write the run's keys."""
        self._board = board
        self._keys = RunKeys(run_id)

    def committed(self) -> set[int]:
        """Return the chunks that workers said they had committed."""
        return self._board.ask(lambda redis: _members(redis, self._keys.committed), otherwise=set[int]())

    def in_hand(self) -> tuple[set[int], set[int]]:
        """Return the chunks that were taken or sent ahead, and those of them that nobody holds or queued just now."""

        def look(redis: Redis) -> tuple[set[int], set[int]]:
            chunks = sorted(_members(redis, self._keys.in_hand))
            with redis.pipeline(transaction=False) as pipe:
                for chunk in chunks:
                    pipe.exists(self._keys.lease(chunk), self._keys.requeued(chunk))
                found = pipe.execute()
            return set(chunks), {chunk for chunk, exists in zip(chunks, found, strict=True) if not exists}

        return self._board.ask(look, otherwise=(set[int](), set[int]()))

    def await_worker(self, chunks: Iterable[int]) -> None:
        """Note chunks that are sent ahead of all others as in hand, so that they are missed if nobody takes them."""

        def note(redis: Redis) -> None:
            with redis.pipeline() as pipe:
                pipe.sadd(self._keys.in_hand, *chunks)
                pipe.expire(self._keys.in_hand, NOTES_S)
                pipe.execute()

        self._board.ask(note, otherwise=None)

    def reserve(self, chunks: Sequence[int], pause_s: float) -> list[int]:
        """Return those chunks that the caller may queue now; for ``pause_s`` nobody else may."""

        def look(redis: Redis) -> list[int]:
            with redis.pipeline(transaction=False) as pipe:
                for chunk in chunks:
                    pipe.exists(self._keys.lease(chunk))
                    pipe.set(self._keys.requeued(chunk), "queued", nx=True, px=max(1, int(pause_s * 1000)))
                found = pipe.execute()
            return [
                chunk for chunk, leased, is_ours in zip(chunks, found[0::2], found[1::2], strict=True)
                if is_ours and not leased
            ]  # fmt: skip

        return self._board.ask(look, otherwise=list[int]())

    def missing_again(self, missing: set[int], limit: int) -> list[int]:
        """Return the chunks that this look misses, and the one before as well, whoever's it was; ``limit`` at most."""

        def look(redis: Redis) -> list[int]:
            key = self._keys.missing
            before = _members(redis, key)
            if before and redis.pttl(key) > 1000 * (MISSING_S - LOOKS_APART_S):
                return []
            again = sorted(missing & before)[:limit]
            left = sorted(missing.difference(again))[:limit]
            with redis.pipeline() as pipe:
                pipe.delete(key)
                if left:
                    pipe.sadd(key, *left)
                    pipe.expire(key, MISSING_S)
                pipe.execute()
            return again

        return self._board.ask(look, otherwise=list[int]())


def _members(redis: Redis, key: str) -> set[int]:
    return {int(chunk) for chunk in redis.smembers(key)}
