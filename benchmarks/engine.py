"""Images per second of the sampling service and of the pipelines of mindone and PyTorch: same weights, batch and steps.

Every batch has prompts that no side has seen before, since the service remembers encoded prompts.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.figures import Target, at_least, left_out, report
from benchmarks.options import Options, read_options
from benchmarks.peer import TORCH_PYTHON, Peer, PeerError, torch_python
from benchmarks.timing import median_seconds
from benchmarks.work import GUIDANCE_RESCALE, GUIDANCE_SCALE, alike, make, prompts
from ddim_core.sampling.service import SamplingService

MINDONE = "images/s over mindone's StableDiffusionPipeline"
TORCH = "images/s over diffusers' StableDiffusionPipeline on PyTorch"


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """A pipeline to compare with."""

    what: str
    """The figure's name."""
    script: str
    """Of ``benchmarks.peers``."""
    target: Target | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    """What the script is told beside the options."""
    interpreter: str = sys.executable
    needs: str = ""
    """How to have it run, for who has not got what it needs."""


def main() -> None:
    """Compare with mindone's pipeline, set up as our own process, and with PyTorch's."""
    needs = f"; {TORCH_PYTHON} names an interpreter that has it"
    compare(
        read_options(__doc__),
        Side(MINDONE, "mindone_pipeline", at_least(5), {"launch": "blocking"}),
        Side(TORCH, "torch_pipeline", at_least(1.2), interpreter=torch_python(), needs=needs),
    )


def compare(options: Options, *sides: Side) -> None:
    """Print the ratio of our speed to each other side's, all taking turns; say so where one cannot run."""
    with contextlib.ExitStack() as stack:
        peers = {side: peer for side in sides if (peer := _open(stack, side, options)) is not None}
        service = stack.enter_context(SamplingService(options.settings))
        turns = [_turn_of_service(service, options), *(_turn_of(peer, options) for peer in peers.values())]
        ours, *theirs = median_seconds(*turns, repeats=options.repeats)
    for side, seconds in zip(peers, theirs, strict=True):
        because = (
            f"{options.slots / ours:.2f} over {options.slots / seconds:.2f} images/s: batch {options.slots}, "
            f"{options.steps} steps, guidance {GUIDANCE_SCALE:g}, {options.threads} threads"
        )
        report(side.what, seconds / ours, side.target, because=because)


def _open(stack: contextlib.ExitStack, side: Side, options: Options) -> Peer | None:
    call = {
        "num_inference_steps": options.steps,
        "guidance_scale": GUIDANCE_SCALE,
        "guidance_rescale": GUIDANCE_RESCALE,
    }
    told = {
        **side.told,
        "model": options.model,
        "device": options.device,
        "device_index": options.device_index,
        "threads": options.threads,
        "call": call,
    }
    try:
        return stack.enter_context(Peer(side.script, side.interpreter, **told))
    except PeerError as error:
        return left_out(side.what, f"{error}{side.needs}")


def _turn_of_service(service: SamplingService, options: Options) -> Callable[[], object]:
    turns = itertools.count()
    info = service.info
    return lambda: make(service, alike(info, options.slots, steps=options.steps, first=options.slots * next(turns)))


def _turn_of(peer: Peer, options: Options) -> Callable[[], object]:
    turns = itertools.count()
    return lambda: peer.run(prompts(options.slots, options.slots * next(turns)))


if __name__ == "__main__":
    main()
