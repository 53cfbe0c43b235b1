"""What Redis is told of a run's progress: attempts, images made, chunks in hand. All of it may be lost."""

from __future__ import annotations

from redis import Redis

from ddim_core.contracts.queue import NOTES_S, RUNS_KEY, WORKERS_PATTERN, RunKeys, worker_key
from workers.coordination.connection import Board
from workers.coordination.suspects import Suspects

PROGRESS_INTERVAL_S = 0.3
REFUSALS_EACH = 3
"""How often each living worker must have refused a run's checkpoint before the run is told that nobody has it."""
REFUSED_FOR_S = 180.0
"""For how long a run must have been refused by then: a worker that has the checkpoint may be restarting, and compiling
its graphs takes a minute or two."""


class Tally:
    """The notes on one run. Without Redis every note is dropped, and every question answered as for a new run."""

    def __init__(self, board: Board, run_id: str) -> None:
        """Take notes under the run's keys."""
        self.keys = RunKeys(run_id)
        self._board = board

    def register(self, run_url: str) -> None:
        """List the run among those that are not finished, where the reconciler looks."""
        self._board.ask(lambda redis: redis.hset(RUNS_KEY, self.keys.run_id, run_url), otherwise=0)

    def is_listed_at(self, run_url: str) -> bool:
        """Return whether the run is listed among those that are not finished, under this URL."""
        return self._board.ask(lambda redis: bool(redis.hget(RUNS_KEY, self.keys.run_id) == run_url), otherwise=False)

    def begin(self, chunk: int) -> int:
        """Note that a worker took the chunk; return how often that has happened, this time included."""

        def note(redis: Redis) -> int:
            with redis.pipeline() as pipe:
                pipe.sadd(self.keys.in_hand, chunk)
                pipe.hincrby(self.keys.attempts, str(chunk), 1)
                pipe.delete(self.keys.requeued(chunk))
                for key in self.keys.lasting():
                    pipe.expire(key, NOTES_S)
                return max(1, int(pipe.execute()[1]))  # less if Redis lost a count that was taken back then

        return self._board.ask(note, otherwise=1)

    def tried(self, times: int) -> set[int]:
        """Return the chunks that workers took at least so often."""

        def look(redis: Redis) -> set[int]:
            return {int(chunk) for chunk, taken in redis.hgetall(self.keys.attempts).items() if int(taken) >= times}

        return self._board.ask(look, otherwise=set[int]())

    def excuse(self, chunk: int) -> None:
        """Take an attempt back that failed for a reason that is not the chunk's."""
        self._count(self.keys.attempts, chunk, -1)

    def fail(self, chunk: int) -> int:
        """Note that an attempt failed as a whole; return how often that has happened, this time included."""
        return self._count(self.keys.failures, chunk, 1)

    def _count(self, key: str, chunk: int, by: int) -> int:
        """Count, in a hash that expires: the run's notes may have been dropped meanwhile."""

        def note(redis: Redis) -> int:
            with redis.pipeline() as pipe:
                pipe.hincrby(key, str(chunk), by)
                pipe.expire(key, NOTES_S)
                return int(pipe.execute()[0])

        return self._board.ask(note, otherwise=1)

    def put_down(self, chunk: int) -> None:
        """Note that no worker is at the chunk, and that nobody need follow: it was queued, or is not to be made."""
        self._board.ask(lambda redis: redis.srem(self.keys.in_hand, chunk), otherwise=0)

    def give_back(self, chunk: int, pause_s: float) -> None:
        """Leave the chunk to the reconciler, which shall not queue it again for ``pause_s``."""

        def note(redis: Redis) -> None:
            redis.set(self.keys.requeued(chunk), "pause", px=max(1, int(pause_s * 1000)))

        self._board.ask(note, otherwise=None)

    def progress(self, chunk: int, made: int, failed: int) -> None:
        """Note how many images of the chunk are done."""

        def note(redis: Redis) -> None:
            with redis.pipeline() as pipe:
                pipe.hset(self.keys.progress, str(chunk), f"{made},{failed}")
                pipe.expire(self.keys.progress, NOTES_S)
                pipe.execute()

        self._board.ask(note, otherwise=None)

    def commit(self, chunk: int, made: int, failed: int) -> int:
        """Note that the chunk is in the store; return how many chunks are, as far as Redis knows."""

        def note(redis: Redis) -> int:
            with redis.pipeline() as pipe:
                pipe.hset(self.keys.progress, str(chunk), f"{made},{failed}")
                pipe.sadd(self.keys.committed, chunk)
                pipe.srem(self.keys.in_hand, chunk)
                pipe.scard(self.keys.committed)
                return int(pipe.execute()[3])

        return self._board.ask(note, otherwise=0)

    def settle(self, chunk: int) -> int:
        """Note that the chunk was found committed; return how many chunks are, as far as Redis knows."""

        def note(redis: Redis) -> int:
            redis.srem(self.keys.in_hand, chunk)
            if not redis.hexists(RUNS_KEY, self.keys.run_id):  # the run is over, and its notes are gone for good
                return 0
            with redis.pipeline() as pipe:
                pipe.sadd(self.keys.committed, chunk)
                pipe.scard(self.keys.committed)
                return int(pipe.execute()[1])

        return self._board.ask(note, otherwise=0)

    def refuse(self, worker_id: str, why: str) -> bool:
        """Note that this worker cannot load the run's checkpoint, and why; return whether that is final.

        It is if all living workers have said so often, over a while, and none has ever loaded it: a worker that did
        may come back, and failed rows are for good.
        """

        def note(redis: Redis) -> bool:
            now_s = int(redis.time()[0])
            with redis.pipeline() as pipe:
                pipe.hincrby(self.keys.refusals, worker_id, 1)
                pipe.hset(self.keys.refused, worker_id, why)
                pipe.expire(self.keys.refused, NOTES_S)
                pipe.set(self.keys.refused_since, now_s, nx=True, ex=NOTES_S)
                pipe.get(self.keys.refused_since)
                pipe.exists(self.keys.able)
                since_s, able = pipe.execute()[-2:]
            if able or now_s - int(since_s) < REFUSED_FOR_S:
                return False
            often = {name for name, count in redis.hgetall(self.keys.refusals).items() if int(count) >= REFUSALS_EACH}
            prefix = worker_key("")
            living = {key[len(prefix) :] for key in redis.scan_iter(WORKERS_PATTERN, count=1000)}
            return worker_id in often and living <= often

        return self._board.ask(note, otherwise=False)

    def able(self, worker_id: str) -> None:
        """Note that this worker has loaded the run's checkpoint: why others could not is no news any more."""

        def note(redis: Redis) -> None:
            with redis.pipeline() as pipe:
                pipe.set(self.keys.able, worker_id, ex=NOTES_S)
                pipe.delete(self.keys.refused)
                pipe.execute()

        self._board.ask(note, otherwise=None)

    @property
    def suspects(self) -> Suspects:
        """The notes on images that may have killed or broken something."""
        return Suspects(self._board, self.keys)

    def forget(self) -> None:
        """Drop all notes on a run that is finished, and take it off the list."""

        def drop(redis: Redis) -> None:
            with redis.pipeline() as pipe:
                pipe.hdel(RUNS_KEY, self.keys.run_id)
                pipe.delete(*self.keys.lasting(), self.keys.missing)
                pipe.execute()

        self._board.ask(drop, otherwise=None)
