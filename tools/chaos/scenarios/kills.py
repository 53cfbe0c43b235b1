"""Workers die by SIGKILL, one by one and with their hosts."""

from __future__ import annotations

import math
import re
from statistics import median

from tools.chaos.audit import audit
from tools.chaos.cluster import Cluster, run_id
from tools.chaos.faults import Killer
from tools.chaos.figures import Figure, at_most, exactly, noted, of_faults
from tools.chaos.pacing import moments
from tools.chaos.work import IMAGES_PER_CHUNK, Options, write_work

HOSTS, DEVICES = 2, "sim:2:20"
MADE_TWICE_SHARE = 0.05


def run(options: Options) -> list[Figure]:
    """Kill as many workers as ``options.faults`` while a run is made, and compare it with one made in peace."""
    work = write_work(options.folder / "requests.jsonl", options.images, seed=options.seed)
    rng = options.rng()
    with Cluster(options.folder) as cluster:
        cluster.add_hosts(HOSTS, options.devices or DEVICES, options=("--log-level", "DEBUG"))
        calm = cluster.make(work, options.folder / "calm", options.timeout_s)
        broken = options.folder / "broken"
        cluster.submit(work, str(broken))
        killer = Killer(cluster, broken, rng)
        watch = killer.watch()
        chunks = math.ceil(options.images / IMAGES_PER_CHUNK)
        for _ in moments(broken, chunks, options.faults, rng, options.timeout_s):
            if killer.killed < options.faults:  # a host that dies takes two workers
                killer.kill_one()
        cluster.wait(broken, options.timeout_s)
        killer.finish(watch)
        made = images_made(cluster.log_text(), run_id(broken))
        return _figures(killer, options, made, of_faults(audit(broken, work.wanted, calm=calm), *_KINDS))


_KINDS = ("lost row", "duplicate row", "changed byte", "differs from the undisturbed run")


def images_made(log: str, run: str) -> list[str]:
    """Return the key of every image of a run that workers finished, as often as they did, as their logs tell."""
    return re.findall(rf"action=image_made run={run} key=(\d+)", log)


def _figures(killer: Killer, options: Options, made: list[str], faults: list[Figure]) -> list[Figure]:
    again = len(made) - len(set(made))
    times = killer.takeovers_s or [0.0]
    return [
        exactly("workers killed", min(killer.killed, options.faults), options.faults),
        *faults,
        exactly("images made", len(set(made)), options.images),
        at_most("images made twice", 100 * again / options.images, 100 * MADE_TWICE_SHARE, "%"),
        noted("images begun twice", 100 * killer.images_begun / options.images, "%"),
        exactly("chunks that nobody took over", killer.abandoned, 0),
        at_most(f"longest of {len(killer.takeovers_s)} takeovers", max(times), 60, "s"),
        at_most("median takeover", median(times), 30, "s"),
    ]
