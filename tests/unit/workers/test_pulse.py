"""Signs of work through a pipe."""

from __future__ import annotations

import os

from workers.pulse import ON_TRIAL, WORKED, Listener, Pulse


def test_signs_arrive_and_silence_is_none() -> None:
    """The launcher looks five times a second and waits for none."""
    listener = Listener()
    assert listener.hear() == b""
    pulse = Pulse(listener.writer)
    pulse.on_trial()
    pulse.worked()
    assert listener.hear() == ON_TRIAL + WORKED
    assert listener.hear() == b""
    pulse.worked()
    listener.begun()
    assert listener.hear() == WORKED  # said before the process ended
    assert listener.hear() == b""
    listener.close()


def test_a_pipe_that_nobody_reads_holds_nobody_up() -> None:
    """A launcher that stands still, or is gone, must not stop the device."""
    reader, writer = os.pipe()
    pulse = Pulse(writer)
    for _ in range(100_000):  # more than a pipe holds
        pulse.worked()
    assert os.read(reader, 10) == 10 * WORKED
    os.close(reader)
    pulse.worked()
    os.close(writer)
    Pulse(None).worked()
