"""On the CPU an image's bytes depend neither on the slots nor on the decoder's batch: fused kernels know lanes."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("mindspore")

from ddim_core.checkpoints import describe, resolve
from ddim_core.contracts.sample import SampleSpec
from ddim_core.sampling.settings import SamplingSettings

pytestmark = [pytest.mark.mindspore, pytest.mark.slow, pytest.mark.usefixtures("cpu")]

SHAPES = resolve("shapes")
INFO = describe(SHAPES)
GUIDED = SampleSpec("a large red circle", "", 1, 0, 5, 4.0, 0.0, 0.0, 64, 64, INFO.schedule)
SPECS = [
    GUIDED,
    replace(GUIDED, seed=2, prompt="a small blue star", guidance_scale=1.0),
    replace(GUIDED, seed=3, eta=1.0, num_inference_steps=7),
    replace(GUIDED, seed=4, guidance_rescale=0.7, negative_prompt="a square"),
    replace(GUIDED, seed=5, schedule=replace(INFO.schedule, thresholding=True)),
]


def images(slots: int, decode_batch: int, specs: list[SampleSpec]) -> list[bytes]:
    from ddim_core.sampling.device import quiet_import
    from ddim_core.sampling.ticket import Ticket

    with quiet_import():
        from ddim_core.sampling.session import DeviceSession

    session = DeviceSession(SamplingSettings(checkpoint=SHAPES, slots=slots, decode_batch=decode_batch), INFO)
    tickets = [Ticket(spec, Future()) for spec in specs]
    outcomes: list[Any] = session.submit(tickets)
    while not session.idle:
        outcomes += session.step()
    by_ticket = {outcome.ticket: outcome for outcome in outcomes}
    return [by_ticket[ticket].image.pixels.tobytes() for ticket in tickets]


def test_slots_and_decoders_batch_change_no_byte(cpu: None) -> None:
    """So that halving for memory changes no image, and a replay needs no equal slots."""
    from ddim_core.sampling.fused.operators import operators

    if operators() is None:
        pytest.skip("the fused kernels were not built: python hatch_build.py native")
    expected = images(8, 4, SPECS)
    assert len(set(expected)) == len(SPECS)
    for slots, decode_batch in ((1, 1), (3, 2), (16, 3)):
        assert images(slots, decode_batch, SPECS[::-1])[::-1] == expected
