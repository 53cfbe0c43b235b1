"""When things break: at random shares of a run's progress, so that each does so while there is work in hand."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from tools.chaos.cluster import committed


def moments(run: Path, chunks: int, count: int, rng: random.Random, timeout_s: float) -> Iterator[int]:
    """Yield ``count`` times, each at a random share of the run's progress, in order.

    Raises:
        TimeoutError: The run came to a standstill.
    """
    shares = sorted(rng.uniform(0.02, 0.9) for _ in range(count))
    for number, share in enumerate(shares):
        last, since = -1, time.monotonic()
        while (done := len(committed(run))) < share * chunks:
            if done != last:
                last, since = done, time.monotonic()
            if time.monotonic() - since > timeout_s:
                raise TimeoutError(f"the run stands still at {done} of {chunks} chunks")
            time.sleep(0.05)
        yield number
