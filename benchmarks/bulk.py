"""Runs for the benchmarks of bulk work: requests to submit, and runs whose chunks are committed without being made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fleet import redis_running, wait_until_whole
from benchmarks.work import prompts
from ddim_core.contracts.manifest import ChunkStats
from ddim_core.contracts.moment import now
from ddim_core.contracts.plan import RunPlan, chunk_items
from ddim_core.contracts.sample import SampledImage, SampleSpec
from ddim_core.storage.run_folder import RunFolder, encode_part, file_entry, part_path, shard_path, stats_path
from producer.client import Client
from workers.chunks.encode import ShardSample, encode_shard
from workers.chunks.records import RecordMaker
from workers.samplers.samplers import SamplerFacts

_WORKER = "benchmark/sim:0/1"
_FACTS = SamplerFacts(device_kind="simulated", device="sim:0", slots=8, dtype="none", versions="{}")
_CHUNKS_AT_ONCE = 500


def requests(count: int, steps: int) -> Iterator[dict[str, Any]]:
    """Yield requests of one image each."""
    for number, prompt in enumerate(prompts(count)):
        yield {"prompt": prompt, "seed": number, "num_inference_steps": steps, "guidance_scale": 4.0}


def make_by_fleet(broker_url: str, out: Path, count: int, *, steps: int, images_per_chunk: int) -> None:
    """Have a fleet make a run, and wait for its manifest."""
    Client(broker_url).submit(requests(count, steps), out=str(out), images_per_chunk=images_per_chunk)
    wait_until_whole(out)


def specs_of(out: Path) -> list[SampleSpec]:
    """Return what the images of a run are made from, in their order."""
    folder = RunFolder(str(out))
    plan = folder.read_plan()
    return [
        item.spec for chunk in range(plan.chunk_count) for item in chunk_items(plan, chunk, folder.read_chunk(chunk))
    ]


def write_committed_run(folder: Path, chunks: int, *, images_per_chunk: int, image_bytes: int = 0) -> Path:
    """Return the folder of a run of which every chunk is committed, and nothing queued.

    Its parts are what workers write, for images of random bytes; without ``image_bytes`` there are parts alone.
    """
    out = folder / "committed"
    with redis_running(folder) as url:  # what is queued there is forgotten with it
        Client(url).submit(requests(chunks * images_per_chunk, 20), out=str(out), images_per_chunk=images_per_chunk)
    for kind in ("parts", "shards") if image_bytes else ("parts",):
        (out / kind).mkdir()
    starts = range(0, chunks, _CHUNKS_AT_ONCE)
    commit = partial(_commit, out, chunks, image_bytes)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        list(pool.map(commit, starts))
    return out


def _commit(out: Path, chunks: int, image_bytes: int, first: int) -> None:
    folder = RunFolder(str(out))
    plan = folder.read_plan()
    for chunk in range(first, min(first + _CHUNKS_AT_ONCE, chunks)):
        _commit_chunk(folder, plan, chunk, out, image_bytes)


def _commit_chunk(folder: RunFolder, plan: RunPlan, chunk: int, out: Path, image_bytes: int) -> None:
    maker = RecordMaker(plan, _FACTS, _WORKER, 1)
    image = SampledImage(np.zeros((0, 0, 3), np.uint8), 1.0, _FACTS.slots)
    samples = []
    for item in chunk_items(plan, chunk, folder.read_chunk(chunk)):
        data = os.urandom(image_bytes)
        samples.append(ShardSample(maker.success(item, data, shard_path(chunk), image), data))
    files = {part_path(chunk): encode_part([sample.record for sample in samples])}
    if image_bytes:
        files = {shard_path(chunk): encode_shard(samples), **files}
    stats = ChunkStats(
        chunk=chunk,
        images=len(samples),
        failed=0,
        attempts=1,
        seconds=1.0,
        started_at=now(),
        finished_at=now(),
        worker=_WORKER,
        device=_FACTS.device,
        files=tuple(file_entry(path, data) for path, data in files.items()),
    )
    # Not through the store: it waits for the disk at each file, which is not what is measured here.
    for path, data in {**files, stats_path(chunk): stats.model_dump_json().encode()}.items():
        (out / path).write_bytes(data)
