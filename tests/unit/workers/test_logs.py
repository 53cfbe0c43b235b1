"""Lines of a worker's log."""

from __future__ import annotations

import logging
import sys

from workers.logs import KeyValueFormatter


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
    assert line.endswith("connected with *** url=redis://u:***@h")


def test_a_traceback_shows_no_password() -> None:
    """Exceptions quote URLs."""
    try:
        raise ValueError("redis://u:secret@h/0 is away")
    except ValueError:
        info = sys.exc_info()
    record = logging.LogRecord("workers", logging.ERROR, __file__, 1, "failed", None, info)
    assert "secret" not in KeyValueFormatter("cpu:0").format(record)
