"""Lines of a worker's log."""

from __future__ import annotations

import logging
import sys
import threading

import pytest

from workers.logs import KeyValueFormatter, set_up_logging


def test_data_follows_the_message_with_the_action_first() -> None:
    """A constant message for people to search by, ``key=value`` for machines; one line whatever the data holds."""
    record = logging.LogRecord("workers", logging.INFO, __file__, 1, "a chunk is committed", None, None)
    vars(record).update(chunk=3, action="chunk_committed", error='said "no"\nand went')
    line = KeyValueFormatter("npu:1").format(record)
    assert line.split(" ", 1)[1] == (
        "INFO [npu:1] a chunk is committed action=chunk_committed chunk=3 error=\"said 'no' and went\""
    )


def test_no_record_shows_a_secret() -> None:
    """Neither in its message nor in its data; those of URLs need not be known."""
    record = logging.LogRecord("kombu", logging.DEBUG, __file__, 1, "connected with %s", ("pass-word",), None)
    vars(record).update(url="redis://u:other@h")
    line = KeyValueFormatter("cpu:0", ["pass-word"]).format(record)
    assert line.endswith("connected with *** url=redis://***:***@h")


def test_no_record_moves_a_terminals_cursor() -> None:
    """Data of a run may hold anything; a line stays a line."""
    record = logging.LogRecord("workers", logging.ERROR, __file__, 1, "failed", None, None)
    vars(record).update(error="\x1b[2J\rINFO all is well")
    assert KeyValueFormatter("cpu:0").format(record).endswith('failed error="\\x1b[2J INFO all is well"')


def test_a_thread_that_ends_by_an_error_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Python would print it past the log, with the secrets that it quotes."""

    def fail() -> None:
        raise ValueError("cannot parse pass-word")

    before, handlers, level = threading.excepthook, logging.root.handlers[:], logging.root.level
    try:
        set_up_logging("INFO", "cpu:0", ["pass-word"])
        thread = threading.Thread(target=fail, name="some-thread")
        thread.start()
        thread.join()
    finally:
        threading.excepthook = before
        logging.basicConfig(level=level, handlers=handlers, force=True)
    shown = capsys.readouterr().err
    assert "action=thread_ended ended=some-thread" in shown
    assert "ValueError: cannot parse ***" in shown and "pass-word" not in shown


def test_a_traceback_shows_no_password() -> None:
    """Exceptions quote URLs."""
    try:
        raise ValueError("redis://u:secret@h/0 is away")
    except ValueError:
        info = sys.exc_info()
    record = logging.LogRecord("workers", logging.ERROR, __file__, 1, "failed", None, info)
    assert "secret" not in KeyValueFormatter("cpu:0").format(record)
