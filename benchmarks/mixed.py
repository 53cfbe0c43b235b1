"""Mixed work through the engine as it comes, and over the same engine in batches that wait for their longest member.

Steps are drawn from 10, 20, 30, 50, two guidance scales and eta 0 and 1; both sides make the same specs.
"""

from __future__ import annotations

import time
from itertools import islice

from benchmarks.figures import at_least, report
from benchmarks.options import read_options
from benchmarks.timing import median_seconds
from benchmarks.work import MIXED_STEPS, make, mixed
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.service import SamplingService

BATCHES = 6
"""Samples of the first figure, in batches of all slots."""
SAMPLES = 500
"""Samples of the second, enough that the last ones, which leave slots empty, weigh little."""


def main() -> None:
    """Print the gain over waiting batches, and the occupancy of the slots."""
    options = read_options(__doc__)
    with SamplingService(options.settings) as service:
        specs = mixed(service.info, options.scaled(BATCHES) * options.slots)
        batches = [list(islice(specs, start, start + options.slots)) for start in range(0, len(specs), options.slots)]
        ours, waiting = median_seconds(
            lambda: make(service, specs), lambda: _one_after_another(service, batches), repeats=options.repeats
        )
        report(
            f"mixed work, steps from {MIXED_STEPS}: images/s over batches that wait for their longest member",
            waiting / ours,
            at_least(1.6),
            because=f"{len(specs) / ours:.2f} over {len(specs) / waiting:.2f} images/s, {len(specs)} samples, "
            f"{options.slots} slots; by steps alone {_expected(batches):.2f}",
        )
        samples = options.scaled(SAMPLES)
        before, began = service.counters(), time.perf_counter()
        make(service, mixed(service.info, samples, seed=1))
        seconds, after = time.perf_counter() - began, service.counters()
    steps = after.steps - before.steps
    report(
        f"mean occupancy of the slots over {samples} samples of mixed work",
        (after.occupancy * after.steps - before.occupancy * before.steps) / steps,
        at_least(0.97),
        because=f"{steps} steps in {seconds:.0f} s, {samples / seconds:.2f} images/s, filling and emptying included",
    )


def _one_after_another(service: SamplingService, batches: list[list[SampleSpec]]) -> None:
    for batch in batches:
        make(service, batch)


def _expected(batches: list[list[SampleSpec]]) -> float:
    """Return the gain if every step cost the same and slots were never empty."""
    steps = [[spec.num_inference_steps for spec in batch] for batch in batches]
    return sum(max(batch) * len(batch) for batch in steps) / sum(sum(batch) for batch in steps)


if __name__ == "__main__":
    main()
