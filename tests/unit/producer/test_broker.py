"""A broker's URL is checked before it is used, and never shown with its password."""

from __future__ import annotations

import pytest

from ddim_core.errors import BrokerError, InputError
from producer.broker import Broker


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("rediss://me:p%40w@h/0?ssl_cert_reqs=none", "rediss://***:***@h/0"),
    ],
)
def test_a_password_is_not_shown(url: str, expected: str) -> None:
    """What is left says which Redis it is."""
    assert Broker(url).shown_url == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("amqp://me:pw@h", r"^the broker's URL must start with redis:// or rediss://, got 'amqp://\*\*\*:\*\*\*@h'$"),
        ("sentinel://h:26379", r"^the broker's URL must start with redis:// or rediss://, got 'sentinel://h:26379'$"),
        ("localhost:6379", r"^the broker's URL must start with redis:// or rediss://, got 'localhost:6379'$"),
        ("redis://h:port/0", r"^the broker's URL must be redis://HOST:PORT/NUMBER, got 'redis://\*\*\*'; with a"),
        ("redis://h:1/zero", r"^the broker's URL must be redis://HOST:PORT/NUMBER, got 'redis://\*\*\*'; with a"),
    ],
)
def test_a_url_that_redis_does_not_have_is_refused(url: str, message: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InputError, match=message):
        Broker(url)


def test_a_redis_that_is_not_there_is_told_in_one_line() -> None:
    """Within seconds."""
    message = (
        r"^Redis at redis://:\*\*\*@127\.0\.0\.1:1/0 must answer, got: .*; start it, or name another with --broker$"
    )
    with pytest.raises(BrokerError, match=message):
        Broker("redis://:pw@127.0.0.1:1/0").ping()
