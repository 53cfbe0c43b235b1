"""What a steady step reads on the host, and how many graphs are compiled after the warm-up.

Both are counted by probes that are shown to fire: reads when an image is decoded, compilations when the service starts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.figures import at_most, report
from benchmarks.options import read_options
from benchmarks.work import alike, make, mixed
from ddim_core.sampling.service import SamplingService

# Through these, and nothing else in Python, a tensor's value reaches the host; bool, int and float go by ``_item``.
READS = ("asnumpy", "numpy", "item", "_item", "tolist", "get_bytes", "__array__", "__bool__", "__int__", "__float__")
STEADY_STEPS = 60
"""Of each sample; the first and last quarter are not counted, in which samples are admitted and decoded."""
MIXED_SAMPLES = 48


def main() -> None:
    """Print reads a steady step and compilations, and what the probes saw where there is something to see."""
    options = read_options(__doc__)
    with SamplingService(options.settings) as service, _host_reads() as reads:
        warm_up = _compiled()
        steps, seen = _steady(service, options.slots, reads)
        decoding = reads.total()
        make(service, mixed(service.info, MIXED_SAMPLES, seed=3, steps=(4, 7, 11)))
        later = _compiled() - warm_up
        own_count = service.counters().graphs_since_warm_up
    assert decoding, "the probe must see that decoding reads pixels"
    assert warm_up, "the probe must see the graphs of the warm-up"
    report(
        "values read on the host in a steady step",
        seen.total() / steps,
        at_most(0),
        because=f"{seen.total()} in {steps} steps of {options.slots} samples; the same probe saw {decoding} until "
        "their images were decoded",
    )
    report(
        "graphs compiled after the warm-up",
        len(later),
        at_most(0),
        because=f"{MIXED_SAMPLES} samples of mixed steps, guidance and eta at the checkpoint's size; "
        f"{len(warm_up)} in the warm-up; the service itself counts {own_count}",
    )


def _steady(service: SamplingService, slots: int, reads: Counter[str]) -> tuple[int, Counter[str]]:
    """Return a number of steps and what was read in them, while samples that began before them went on after them."""
    start = service.counters().steps
    futures = [service.submit(spec) for spec in alike(service.info, slots, steps=STEADY_STEPS)]
    _wait_until(lambda: service.counters().steps >= start + STEADY_STEPS // 4)
    first, before = service.counters().steps, reads.copy()
    _wait_until(lambda: service.counters().steps >= start + STEADY_STEPS * 3 // 4)
    seen, last = reads - before, service.counters().steps
    assert last < start + STEADY_STEPS, "no sample may end while steps are watched"
    for future in futures:
        future.result()
    return last - first, seen


def _wait_until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.001)


@contextmanager
def _host_reads() -> Iterator[Counter[str]]:
    """Count the calls by which tensors' values reach the host."""
    from mindspore import Tensor

    reads: Counter[str] = Counter()
    originals = {name: getattr(Tensor, name) for name in READS}

    def counted(name: str) -> Callable[..., Any]:
        def read(*arguments: Any, **options: Any) -> Any:
            reads[name] += 1
            return originals[name](*arguments, **options)

        return read

    for name in READS:
        setattr(Tensor, name, counted(name))
    try:
        yield reads
    finally:
        for name, original in originals.items():
            setattr(Tensor, name, original)


def _compiled() -> set[str]:
    """Return the names MindSpore has given to the graphs it holds; it adds one with every compilation."""
    from mindspore.common import api

    return set(api.ms_compile_cache)


if __name__ == "__main__":
    main()
