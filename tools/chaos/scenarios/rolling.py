"""Workers are replaced one after the other while a run is made, as in an upgrade."""

from __future__ import annotations

import math
import re

from tools.chaos.audit import audit, rows_of
from tools.chaos.cluster import Cluster, run_id
from tools.chaos.figures import Figure, at_most, exactly, of_faults
from tools.chaos.pacing import moments
from tools.chaos.work import IMAGES_PER_CHUNK, Options, write_work

DEVICES = "sim:1:20"


def run(options: Options) -> list[Figure]:
    """Drain each of ``options.faults`` hosts by SIGTERM at a random moment, and start it again when it has ended."""
    work = write_work(options.folder / "requests.jsonl", options.images, seed=options.seed)
    rng = options.rng()
    with Cluster(options.folder) as cluster:
        hosts = cluster.add_hosts(options.faults, options.devices or DEVICES)
        calm = cluster.make(work, options.folder / "calm", options.timeout_s)
        rolled = options.folder / "rolled"
        cluster.submit(work, str(rolled))
        chunks = math.ceil(options.images / IMAGES_PER_CHUNK)
        codes = []
        for number in moments(rolled, chunks, options.faults, rng, options.timeout_s):
            codes.append(hosts[number].drain())
            hosts[number].start()
        cluster.wait(rolled, options.timeout_s)
        again = _chunks_again(cluster.log_text(), run_id(rolled))
        attempts = sum(row["attempts"] > 1 for row in rows_of(rolled))
        return [
            exactly("workers drained", sum(code == 0 for code in codes), options.faults),
            *of_faults(audit(rolled, work.wanted, calm=calm), "lost row", "duplicate row"),
            at_most("chunks begun more than once, a worker", again / options.faults, 1),
            at_most("images made at a second attempt, a worker", attempts / options.faults, IMAGES_PER_CHUNK),
        ]


def _chunks_again(log: str, run: str) -> int:
    """Return how often a chunk was committed a second time or given up, as the workers' logs tell."""
    done = re.findall(rf"action=chunk_committed run={run} chunk=(\d+)", log)
    return len(done) - len(set(done)) + log.count("action=chunk_given_back")
