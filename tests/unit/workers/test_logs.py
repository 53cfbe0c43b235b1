"""Lines of a worker's log."""

from __future__ import annotations

import logging
import sys

import pytest

from ddim_core.hiding import public_url, without_passwords
from workers.logs import KeyValueFormatter


def test_data_follows_the_message_with_the_action_first() -> None:
    """A constant message for people to search by, ``key=value`` for machines; one line whatever the data holds."""
    record = logging.LogRecord("workers", logging.INFO, __file__, 1, "a chunk is committed", None, None)
    vars(record).update(chunk=3, action="chunk_committed", error='said "no"\nand went')
    line = KeyValueFormatter("npu:1").format(record)
    assert line.split(" ", 1)[1] == (
        "INFO [npu:1] a chunk is committed action=chunk_committed chunk=3 error=\"said 'no' and went\""
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:s3cr:et@host", "rediss://user:***@host"),
        ("could not reach redis://u:p@h/0 and http://a:b@c", "could not reach redis://u:***@h/0 and http://a:***@c"),
        ("file:///data/run", "file:///data/run"),
    ],
)
def test_passwords_in_urls_are_not_shown(text: str, shown: str) -> None:
    """Wherever they stand in a line."""
    assert without_passwords(text) == shown


def test_a_public_url_has_no_query() -> None:
    """Redis takes a password there too."""
    assert public_url("redis://h:1/0?password=secret") == "redis://h:1/0"


def test_a_traceback_shows_no_password() -> None:
    """Exceptions quote URLs."""
    try:
        raise ValueError("redis://u:secret@h/0 is away")
    except ValueError:
        info = sys.exc_info()
    record = logging.LogRecord("workers", logging.ERROR, __file__, 1, "failed", None, info)
    assert "secret" not in KeyValueFormatter("cpu:0").format(record)
