"""Leases: which worker process is at a chunk, said in Redis and renewed while it lasts.

A lease saves work, it does not guard it: two workers at one chunk write the same bytes. So nothing waits for Redis
here, and a lease that was lost with it is taken again at the next renewal.
"""

from __future__ import annotations

import logging
import threading

from redis import Redis

from ddim_core.contracts.queue import LEASE_RENEW_S, LEASE_S, LEASES_PATTERN, NOTES_S, RECONCILER_LOCK
from workers.coordination.connection import Board
from workers.periodic import Periodic

log = logging.getLogger(__name__)

_NOTE = "redis.call('sadd', KEYS[2], ARGV[3]) redis.call('expire', KEYS[2], ARGV[4])"
_TAKE = f"""
local taken = redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
if not taken and redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
if KEYS[2] then {_NOTE} end
return 1
"""
_RENEW = f"""
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'PX', ARGV[2])
if KEYS[2] and not holder then {_NOTE} end
return 1
"""
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


def claim(board: Board, key: str, holder: str, lease_s: float) -> bool:
    """Take, or renew, a lease that nothing else renews; return whether ``holder`` has it. Without Redis nobody has."""
    return bool(board.ask(lambda redis: redis.eval(_RENEW, 1, key, holder, str(int(lease_s * 1000))), otherwise=0))


def let_go(board: Board, key: str, holder: str) -> None:
    """Release a lease that ``claim`` took, unless another holder has it by now."""
    board.ask(lambda redis: redis.eval(_RELEASE, 1, key, holder), otherwise=0)


def release_all(board: Board, holder: str) -> int:
    """Release every lease of a process that is known to have ended, so that nobody waits for them to expire."""

    def release(redis: Redis) -> int:
        keys = [RECONCILER_LOCK, *redis.scan_iter(LEASES_PATTERN, count=1000)]
        return sum(int(redis.eval(_RELEASE, 1, key, holder)) for key in keys)

    return board.ask(release, otherwise=0)


class Leases:
    """The leases that this process holds, each renewed until it is released."""

    def __init__(self, board: Board, holder: str, *, lease_s: float = LEASE_S, renew_s: float = LEASE_RENEW_S) -> None:
        """Hold leases in the name of ``holder``, which must be unique to the process."""
        self._board = board
        self._holder = holder
        self._lease_ms = int(lease_s * 1000)
        self._held: dict[str, str | None] = {}
        self._lock = threading.Lock()
        self._renewal = Periodic("leases", renew_s, self.renew)

    def start(self) -> None:
        """Begin to renew."""
        self._renewal.start()

    def stop(self) -> None:
        """Stop renewing; what is still held expires."""
        self._renewal.stop()

    def take(self, key: str, *, noted_in: str | None = None) -> bool:
        """Return whether the lease is now this caller's; without Redis it is, as nobody can say otherwise.

        Its chunk, with which the key ends, is put into the set ``noted_in`` in the same moment: a worker that dies in
        the next one leaves a note of what it had.
        """
        with self._lock:
            if key in self._held:
                return False
            self._held[key] = noted_in
        taken = self._board.ask(lambda redis: bool(self._eval(redis, _TAKE, key, noted_in)), otherwise=True)
        if not taken:
            with self._lock:
                self._held.pop(key, None)
        return taken

    def release(self, key: str) -> None:
        """Let the lease go, unless another process has it by now."""
        with self._lock:
            self._held.pop(key, None)
        self._board.ask(lambda redis: redis.eval(_RELEASE, 1, key, self._holder), otherwise=0)

    def held(self) -> tuple[str, ...]:
        """Return the keys of the leases held."""
        with self._lock:
            return tuple(sorted(self._held))

    def chunks(self) -> tuple[str, ...]:
        """Return the chunks among them as ``run_id/chunk``."""
        parts = (key.split(":") for key in self.held())
        return tuple("/".join(part[-2:]) for part in parts if part[-1].isdigit())

    def renew(self) -> None:
        """Renew every lease held, and take again those that Redis forgot."""
        for key in self.held():
            self._renew(key)

    def _renew(self, key: str) -> None:
        noted_in = self._held.get(key)
        renewed = self._board.ask(lambda redis: self._eval(redis, _RENEW, key, noted_in), otherwise=1)
        if not renewed:
            log.info("another worker is at this chunk too", extra={"action": "lease_lost", "lease": key})
        elif key not in self._held:  # released while it was being renewed
            self.release(key)

    def _eval(self, redis: Redis, script: str, key: str, noted_in: str | None) -> int:
        keys = [key] if noted_in is None else [key, noted_in]
        chunk = key.rpartition(":")[2]
        return int(redis.eval(script, len(keys), *keys, self._holder, str(self._lease_ms), chunk, str(NOTES_S)))
