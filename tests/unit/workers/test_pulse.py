"""Signs of life through a pipe."""

from __future__ import annotations

import os

from workers.pulse import ALIVE, WORKED, Listener, Pulse


def test_signs_arrive_in_their_order_and_silence_is_nothing() -> None:
    """The launcher looks five times a second and waits for none."""
    listener = Listener()
    assert listener.hear() == b""
    pulse = Pulse(listener.writer)
    pulse.alive()
    pulse.worked()
    assert listener.hear() == ALIVE + WORKED
    assert listener.hear() == b""
    listener.begun()
    assert listener.hear() == b""  # the process ended
    listener.close()


def test_a_pipe_that_nobody_reads_holds_nobody_up() -> None:
    """A launcher that stands still, or is gone, must not stop the device."""
    reader, writer = os.pipe()
    pulse = Pulse(writer)
    for _ in range(100_000):  # more than a pipe holds
        pulse.worked()
    os.close(reader)
    pulse.alive()
    os.close(writer)
    Pulse(None).alive()
