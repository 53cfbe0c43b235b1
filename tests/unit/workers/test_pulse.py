"""Signs of work through a pipe."""

from __future__ import annotations

import os

from workers.pulse import Listener, Pulse


def test_a_sign_arrives_and_silence_is_none() -> None:
    """The launcher looks five times a second and waits for none."""
    listener = Listener()
    assert not listener.has_worked()
    pulse = Pulse(listener.writer)
    for _ in range(2):
        pulse.worked()
    assert listener.has_worked()
    assert not listener.has_worked()
    pulse.worked()
    listener.begun()
    assert listener.has_worked()  # said before the process ended
    assert not listener.has_worked()
    listener.close()


def test_a_pipe_that_nobody_reads_holds_nobody_up() -> None:
    """A launcher that stands still, or is gone, must not stop the device."""
    reader, writer = os.pipe()
    pulse = Pulse(writer)
    for _ in range(100_000):  # more than a pipe holds
        pulse.worked()
    os.close(reader)
    pulse.worked()
    os.close(writer)
    Pulse(None).worked()
