"""Secrets are replaced wherever text is shown."""

from __future__ import annotations

import pytest

from ddim_core.hiding import current_traceback, public_url, without_controls, without_passwords, without_secrets

SECRET = "hunter2-secret"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("rediss://user:s3cr:et@host", "rediss://***:***@host"),
        ("REDISS://user:s3@cr@et@host", "REDISS://***:***@host"),
        (
            "could not reach redis://u:p@h/0 and http://a:b@c",
            "could not reach redis://***:***@h/0 and http://***:***@c",
        ),
        ("no redis://secret@host:6379/0", "no redis://***@host:6379/0"),
        ("redis://secret:@host", "redis://***:@host"),
        ("write redis://:PASSWORD@HOST, not redis://x@h", "write redis://:PASSWORD@HOST, not redis://***@h"),
        ("redis://:s/e#c?r@e@host/0, then", "redis://:***@host/0, then"),
        ("GET http://key@host/bucket", "GET http://***@host/bucket"),
        ("s3://KEY:SEC/RET@bucket/run and s3:/KEY:SEC@bucket", "s3://***:***@bucket/run and s3:/***:***@bucket"),
        ("http://127.0.0.1:9000/a@b http://h/a:b@c", "http://127.0.0.1:9000/a@b http://h/a:b@c"),
        ("https://h/k?AWSAccessKeyId=a&Signature=b&x=1", "https://h/k?AWSAccessKeyId=***&Signature=***&x=1"),
        ("redis://h/0?password=secret&db=1", "redis://h/0?password=***&db=1"),
        ("https://h/k?X-Amz-Security-Token=abc", "https://h/k?X-Amz-Security-Token=***"),
        ("http://127.0.0.1:9000/bucket/a@b", "http://127.0.0.1:9000/bucket/a@b"),
        ("file:///data/run", "file:///data/run"),
    ],
)
def test_passwords_in_urls_are_not_shown(text: str, shown: str) -> None:
    """Wherever they stand in a line, and whatever signs they hold."""
    assert without_passwords(text) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0?password=secret", "redis://h:1/0"),
        ("redis://u:secret@h:1/0", "redis://***:***@h:1/0"),
        ("redis://u:se@cret@h:1/0", "redis://***:***@h:1/0"),
        ("redis://u:se/cret@h:1/0", "redis://***"),
        ("redis://u:se?cret@h:1/0", "redis://***"),
        ("redis://secret@h:1/0", "redis://***@h:1/0"),
        ("redis://secret:@h:1/0", "redis://***:@h:1/0"),
        ("redis://[::1/0", "redis://[::1/0"),
        ("h:1", "h:1"),
    ],
)
def test_a_public_url_has_no_password_and_no_query(url: str, shown: str) -> None:
    """One that was not encoded as it must be is not taken apart at the wrong sign."""
    assert public_url(url) == shown


def test_a_known_secret_is_not_shown_in_any_form_of_text() -> None:
    """Longer ones first, since one may be part of another."""
    text = f"{SECRET}-long {{'password': '{SECRET}'}}"
    assert without_secrets(text, (f"{SECRET}-long", SECRET)) == "*** {'password': '***'}"


def test_a_traceback_shows_no_secret_of_any_exception_in_its_chain() -> None:
    """Libraries put into their messages what they were given."""
    try:
        try:
            raise ValueError(f"cannot parse {SECRET}")
        except ValueError as exc:
            raise RuntimeError(f"no redis://u:{SECRET}@h") from exc
    except RuntimeError:
        shown = current_traceback([SECRET])
    assert SECRET not in shown
    assert "ValueError: cannot parse ***" in shown
    assert shown.endswith("RuntimeError: no redis://***:***@h")


def test_control_characters_are_shown_and_not_obeyed() -> None:
    """They come with ids, messages of libraries, and reports that anyone can put into Redis."""
    text = "red\x1b[31m clear\x1b[2J back\r\x08 c1\x9b turned\u202e isolate\u2066 nul\0"
    shown = without_controls(f"{text}\n\ttab and 图 🦊")
    assert shown == (
        "red\\x1b[31m clear\\x1b[2J back\\r\\x08 c1\\x9b turned\\u202e isolate\\u2066 nul\\x00\n\ttab and 图 🦊"
    )
