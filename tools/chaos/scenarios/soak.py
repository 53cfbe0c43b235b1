"""Steady work for a long time: nothing may grow."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from tools.chaos.audit import audit
from tools.chaos.cluster import Cluster
from tools.chaos.figures import Figure, at_most, exactly, noted
from tools.chaos.work import Options, write_work

HOSTS, DEVICES = 1, "sim:2:9"  # makes a million images in a little less than two hours
RUN_IMAGES, CHUNK_IMAGES = 10_000, 100
"""Of each run; a run that is audited is deleted, or a million images would fill the disk."""
MEMORY_GROWTH = 0.05
HANDLES_GROWTH, KEYS_GROWTH = 2, 5


@dataclass(frozen=True, slots=True)
class _Sample:
    memory_kib: int
    handles: int
    keys: int


def run(options: Options) -> list[Figure]:
    """Make one run after the other, ``options.images`` in all and for ``options.duration_s`` at least.

    The last quarter is compared with the second.
    """
    images = min(options.images, RUN_IMAGES)
    path = options.folder / "requests.jsonl"
    work = write_work(path, images, steps=5, images_per_chunk=CHUNK_IMAGES, seed=options.seed)
    samples: list[_Sample] = []
    faults = 0
    with Cluster(options.folder) as cluster:
        cluster.add_hosts(HOSTS, DEVICES)
        pids = {pid for _, pid in cluster.workers()}
        end = time.monotonic() + options.duration_s
        while time.monotonic() < end or len(samples) * images < options.images:
            made = cluster.make(work, options.folder / f"run-{len(samples)}", options.timeout_s)
            faults += len(audit(made, work.wanted))
            samples.append(_look(cluster))
            shutil.rmtree(made)
            print(f"{len(samples) * images} images, {samples[-1]}", flush=True)
        dead = len(pids - {pid for _, pid in cluster.workers()})
    return [
        noted("images", len(samples) * images, ""),
        exactly("faults of the datasets", faults, 0),
        exactly("workers that died", dead, 0),
        *_growth(samples),
    ]


def _growth(samples: Sequence[_Sample]) -> list[Figure]:
    memory = _change(samples, lambda sample: sample.memory_kib)
    early = mean(sample.memory_kib for sample in _second_quarter(samples))
    return [
        at_most(f"growth of memory over {len(samples)} runs", 100 * memory / early, 100 * MEMORY_GROWTH, "%"),
        at_most("growth of open files and sockets", _change(samples, lambda sample: sample.handles), HANDLES_GROWTH),
        at_most("growth of Redis keys", _change(samples, lambda sample: sample.keys), KEYS_GROWTH),
    ]


def _change(samples: Sequence[_Sample], value: Callable[[_Sample], int]) -> float:
    quarter = max(1, len(samples) // 4)
    return mean(map(value, samples[-quarter:])) - mean(map(value, _second_quarter(samples)))


def _second_quarter(samples: Sequence[_Sample]) -> Sequence[_Sample]:
    """Return those after the start, in which workers load what they will keep."""
    quarter = max(1, len(samples) // 4)
    return samples[quarter : 2 * quarter] or samples


def _look(cluster: Cluster) -> _Sample:
    pids = [pid for _, pid in cluster.workers()]
    with cluster.redis.client() as client:
        keys = int(client.dbsize())
    return _Sample(sum(map(_memory_kib, pids)), sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids), keys)


def _memory_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
