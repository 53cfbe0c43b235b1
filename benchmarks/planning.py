"""Planning and queueing a million requests with ``ddim-fleet submit`` on one core: time, memory, Redis's growth."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path

import redis

from benchmarks.figures import at_most, report
from benchmarks.fleet import Ended, fleet_command, redis_running, run_on
from benchmarks.options import read_options
from benchmarks.work import prompts
from ddim_core.storage.run_folder import RunFolder

REQUESTS = 1_000_000


def main() -> None:
    """Print all three."""
    options = read_options(__doc__)
    count = options.scaled(REQUESTS)
    with tempfile.TemporaryDirectory() as name, redis_running(Path(name)) as url:
        folder = Path(name)
        _write_requests(folder / "prompts.jsonl", count)
        runs = [_submit(folder, f"run-{number}", url) for number in range(options.repeats)]
    ended, bytes_a_chunk = zip(*runs, strict=True)
    what = f"planning and queueing {count:,} JSONL requests"
    because = f"one core, median of {options.repeats}"
    report(f"{what}: seconds", statistics.median(run.seconds for run in ended), at_most(60), because=because)
    report(f"{what}: peak MiB", statistics.median(run.peak_mib for run in ended), at_most(300), because=because)
    report(f"{what}: bytes of Redis a chunk", statistics.median(bytes_a_chunk), at_most(2000), because=because)


def _write_requests(path: Path, count: int) -> None:
    with path.open("w") as file:
        for number, prompt in enumerate(prompts(count)):
            # No two alike, so that each is counted.
            own = {"custom_id": f"r{number}", "prompt": f"{prompt}, {number}", "seed": number}
            file.write(json.dumps({**own, "num_inference_steps": 20}) + "\n")


def _submit(folder: Path, run: str, url: str) -> tuple[Ended, float]:
    """Submit the requests as one more run; return what that took, and the bytes by which Redis grew for each chunk."""
    with redis.Redis.from_url(url) as client:
        before = client.info("memory")["used_memory"]
        arguments = ("submit", str(folder / "prompts.jsonl"), "--out", str(folder / run), "--broker", url)
        ended = run_on([min(os.sched_getaffinity(0))], *fleet_command(*arguments))
        grown = client.info("memory")["used_memory"] - before
    return ended, grown / RunFolder(str(folder / run)).read_plan().chunk_count


if __name__ == "__main__":
    main()
