"""Things that break, and what the rig notes of each."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import RedisError

from tools.chaos.cluster import Cluster, Host, committed, in_hand
from tools.chaos.work import IMAGES_PER_CHUNK
from tools.servers import RedisServer, wait_for

HOST_AWAY_S = 1.0
FOLLOW_S = 30.0
HOST_SHARE = 0.5
"""Of the kills, those that take a launcher with all its workers; the others take one worker, as its launcher sees."""


@dataclass(slots=True)
class Killer:
    """Kills workers of a run at work, and watches who takes over what they held."""

    cluster: Cluster
    run: Path
    rng: random.Random
    killed: int = 0
    images_begun: int = 0
    """All images of uncommitted chunks in the hands of the killed, finished or not."""
    takeovers_s: list[float] = field(default_factory=list)
    """From a kill until another process had the chunk, or had committed it."""
    _orphans: dict[int, tuple[int, float]] = field(default_factory=dict)
    _closing: threading.Event = field(default_factory=threading.Event)
    _returns: list[threading.Timer] = field(default_factory=list)

    def watch(self) -> threading.Thread:
        """Begin to look who takes over, in a thread that ``finish`` ends."""
        thread = threading.Thread(target=self._watch, name="takeovers", daemon=True)
        thread.start()
        return thread

    def finish(self, thread: threading.Thread) -> None:
        """Look once more, and stop; every host is back by then."""
        for back in self._returns:
            back.join()
        self._closing.set()
        thread.join()

    def kill_one(self) -> None:
        """Kill a worker, or a host with all its workers, which comes back a moment later."""
        living = self.cluster.workers()
        if not living:
            return
        host, pid = self.rng.choice(living)
        doomed = host.workers() if self.rng.random() < HOST_SHARE else [pid]
        held = {chunk: holder for chunk, holder in in_hand(self.cluster, self.run) if holder in doomed}
        if len(doomed) > 1 or doomed == host.workers():
            self._lose(host)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.killed += len(doomed)
        self._note(held)

    def _lose(self, host: Host) -> None:
        host.kill()
        self._returns.append(threading.Timer(HOST_AWAY_S, host.start))
        self._returns[-1].start()

    def _note(self, held: dict[int, int]) -> None:
        now = time.monotonic()
        done = committed(self.run)  # a chunk may have been committed in the moment before the kill
        lost = {chunk: (pid, now) for chunk, pid in held.items() if chunk not in done}
        self.images_begun += IMAGES_PER_CHUNK * len(lost)
        self._orphans.update(lost)

    def _watch(self) -> None:
        while not self._closing.wait(0.1):
            with contextlib.suppress(RedisError):
                self._look()
        self._look()

    def _look(self) -> None:
        if not self._orphans:
            return
        done, holders = committed(self.run), dict(in_hand(self.cluster, self.run))
        for chunk, (pid, since) in list(self._orphans.items()):
            if chunk in done or holders.get(chunk, pid) != pid:
                self.takeovers_s.append(time.monotonic() - since)
                del self._orphans[chunk]

    @property
    def abandoned(self) -> int:
        """Return how many chunks nobody has taken over."""
        return len(self._orphans)


def restart_redis(cluster: Cluster) -> None:
    """Kill Redis and start it again, empty."""
    cluster.redis.stop()
    time.sleep(0.5)
    cluster.redis.start()


def freeze_redis(cluster: Cluster, pause_s: float) -> None:
    """Have connections to Redis stand still, open ones and new ones."""
    cluster.proxy.freeze()
    time.sleep(pause_s)
    cluster.proxy.thaw()


def wipe_redis(cluster: Cluster) -> None:
    """FLUSHALL."""
    with cluster.redis.client() as client:
        client.flushall()


def replace_redis(cluster: Cluster) -> None:
    """Lose Redis for good, and have its name lead to an empty one."""
    cluster.redis.stop()
    _lead_to(cluster, RedisServer(cluster.folder))
    cluster.proxy.cut()


def fail_over_redis(cluster: Cluster) -> None:
    """Lose Redis for good, and have its name lead to the replica that followed it."""
    heir = _replica(cluster)
    cluster.redis.stop()
    _promote(heir)
    _lead_to(cluster, heir)
    cluster.proxy.cut()


def demote_redis(cluster: Cluster) -> None:
    """Have Redis and its replica change places; open connections stay with the old one, which refuses to write."""
    old, heir = cluster.redis, _replica(cluster)
    _promote(heir)
    with old.client() as client:
        client.replicaof("127.0.0.1", str(heir.port))
    _lead_to(cluster, heir)


def _replica(cluster: Cluster) -> RedisServer:
    made = RedisServer(cluster.folder)
    with made.client() as client:
        client.replicaof("127.0.0.1", str(cluster.redis.port))
        wait_for(lambda: client.info("replication")["master_link_status"] == "up", FOLLOW_S, "a replica must follow")
    return made


def _promote(replica: RedisServer) -> None:
    with replica.client() as client:
        client.replicaof("NO", "ONE")


def _lead_to(cluster: Cluster, heir: RedisServer) -> None:
    cluster.retired.append(cluster.redis)
    cluster.redis = heir
    cluster.proxy.redirect(heir.port)


def lose_redis_host(cluster: Cluster, pause_s: float) -> None:
    """Have Redis vanish without a word, and another come up empty in its place."""
    cluster.proxy.freeze()
    cluster.redis.stop()
    time.sleep(pause_s)
    cluster.redis.start()
    cluster.proxy.cut()
    cluster.proxy.thaw()
