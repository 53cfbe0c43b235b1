"""Redis restarts, freezes, is wiped, goes away with its host, and fails over to another server."""

from __future__ import annotations

import math
from collections.abc import Callable

from tools.chaos.audit import audit, rows_of
from tools.chaos.cluster import Cluster
from tools.chaos.faults import (
    demote_redis,
    fail_over_redis,
    freeze_redis,
    lose_redis_host,
    replace_redis,
    restart_redis,
    wipe_redis,
)
from tools.chaos.figures import Figure, exactly, of_faults
from tools.chaos.pacing import moments
from tools.chaos.work import IMAGES_PER_CHUNK, Options, write_work

HOSTS, DEVICES = 1, "sim:3:20"
CHUNKS_EACH = 6
"""Of the run that shows who still hears: enough that no worker is left without one by chance."""


def run(options: Options) -> list[Figure]:
    """Break Redis in every way while a run is made, then see whether every worker still takes chunks."""
    work = write_work(options.folder / "requests.jsonl", options.images, seed=options.seed)
    rng = options.rng()
    events = _events(options)
    rng.shuffle(events)
    with Cluster(options.folder) as cluster:
        cluster.add_hosts(HOSTS, options.devices or DEVICES)
        calm = cluster.make(work, options.folder / "calm", options.timeout_s)
        started = cluster.workers()
        broken = options.folder / "broken"
        cluster.submit(work, str(broken))
        chunks = math.ceil(options.images / IMAGES_PER_CHUNK)
        for number in moments(broken, chunks, len(events), rng, options.timeout_s):
            events[number](cluster)
        cluster.wait(broken, options.timeout_s)
        dead = len(set(started) - set(cluster.workers()))
        return [
            exactly("times that Redis was broken", len(events), options.faults + 3 + 5),
            *of_faults(audit(broken, work.wanted, calm=calm), "lost row", "duplicate row"),
            exactly("workers that died", dead, 0),
            exactly("workers that take no more chunks", _deaf(cluster, options), 0),
        ]


def _events(options: Options) -> list[Callable[[Cluster], None]]:
    return [
        *[restart_redis] * options.faults,
        *[lambda cluster: freeze_redis(cluster, options.pause_s)] * 3,
        wipe_redis,
        lambda cluster: lose_redis_host(cluster, 4 * options.pause_s),
        replace_redis,
        fail_over_redis,
        demote_redis,
    ]


def _deaf(cluster: Cluster, options: Options) -> int:
    """Return how many living workers have no part in another run."""
    living = {str(pid) for _, pid in cluster.workers()}
    images = CHUNKS_EACH * len(living) * IMAGES_PER_CHUNK
    work = write_work(options.folder / "hearing.jsonl", images, seed=options.seed)
    heard = cluster.make(work, options.folder / "hearing", options.timeout_s)
    return len(living - {str(row["worker"]).rpartition("/")[2] for row in rows_of(heard)})
