"""How many slots a size gets."""

from __future__ import annotations

import pytest

from ddim_core.contracts.sample import BatchShape, Size
from ddim_core.errors import OutOfMemoryError
from ddim_core.sampling.slots import Slots

SQUARE, LARGE = BatchShape(Size(512, 512)), BatchShape(Size(1024, 1024))
WIDE, SMALL = BatchShape(Size(512, 1024)), BatchShape(Size(256, 256))
GIB = 2**30


def test_without_a_limit_every_size_gets_what_was_asked_for() -> None:
    """Until the device says that it has no memory."""
    slots = Slots(8)
    assert slots.measured(SQUARE, 10 * GIB)
    assert (slots.of(SQUARE), slots.of(LARGE)) == (8, 8)


def test_a_batch_above_the_limit_is_halved() -> None:
    """It has to be tried again then."""
    slots = Slots(8, base_bytes=2 * GIB, limit_bytes=8 * GIB)
    assert not slots.measured(SQUARE, 10 * GIB)
    assert slots.of(SQUARE) == 4
    assert slots.measured(SQUARE, 6 * GIB)
    assert slots.halved == 1


def test_one_slot_stays_whatever_is_measured() -> None:
    """A limit is no reason to make nothing at all; only a device without memory is."""
    slots = Slots(1, limit_bytes=GIB)
    assert slots.measured(SQUARE, 10 * GIB)
    slots.check(SQUARE)


def test_a_size_is_guessed_from_those_that_were_measured() -> None:
    """In proportion to its pixels, so that few graphs are compiled in vain; what grows faster is found by trying."""
    slots = Slots(8, base_bytes=2 * GIB, limit_bytes=8 * GIB)
    assert slots.measured(SQUARE, 5 * GIB)
    assert (slots.of(LARGE), slots.of(WIDE), slots.of(SMALL)) == (4, 8, 8)
    assert slots.halved == 0
    assert dict(slots.by_shape) == {SQUARE: 8, LARGE: 4, WIDE: 8, SMALL: 8}


def test_a_size_that_one_slot_is_too_many_for_is_given_up() -> None:
    """Its samples are told at once, before they take others along."""
    slots = Slots(3)
    assert slots.halve(LARGE)
    slots.check(LARGE)
    assert not slots.halve(LARGE)
    with pytest.raises(OutOfMemoryError, match="the device must have memory for one image of 1024x1024, and it has no"):
        slots.check(LARGE)
    slots.check(SQUARE)


def test_more_windows_are_guessed_from_fewer_and_not_the_other_way_round() -> None:
    """What more text needs is known once it was measured, and costs pictures with one window no slot."""
    slots = Slots(8, base_bytes=2 * GIB, limit_bytes=8 * GIB)
    assert slots.measured(SQUARE, 7 * GIB)
    two, four = SQUARE._replace(windows=2), SQUARE._replace(windows=4)
    assert slots.of(two) == 8
    assert not slots.measured(two, 9 * GIB)
    assert slots.of(two) == 4
    assert (slots.of(four), slots.of(BatchShape(Size(512, 576)))) == (4, 8)
    assert {str(shape) for shape in slots.by_shape} == {"512x512", "512x512/2w", "512x512/4w", "576x512"}


def test_windows_without_room_leave_the_size_alone() -> None:
    """A long prompt that does not fit is no reason to give short ones up."""
    slots = Slots(1)
    two = SQUARE._replace(windows=2)
    assert not slots.halve(two)
    with pytest.raises(OutOfMemoryError, match="the device must have memory for one image of 512x512/2w, and it has n"):
        slots.check(two)
    slots.check(SQUARE)
