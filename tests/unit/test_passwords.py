"""Whatever a password is made of, Redis gets it as it is, or a person is told what to write; nobody is shown it."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from hypothesis import given, settings
from hypothesis import strategies as st
from kombu import Connection
from redis.connection import parse_url

from ddim_core.broker_url import BROKER_VARIABLE, check_broker_url, kombu_url, secrets_of, shown_broker
from ddim_core.errors import InputError
from ddim_core.hiding import without_passwords, without_secrets
from producer.broker import Broker

MARK = "hunter2XYZ"
NASTY = "#/?[]%@ :;+&=,'\"\\<>{}|^~!$()*`\t\n\x00é图℀🦊aB09"
nasty = st.text(st.sampled_from(NASTY), max_size=8)
passwords = st.tuples(nasty, nasty).map(MARK.join)
fast = settings(derandomize=True, deadline=None, max_examples=300)


def fault_of(url: str) -> str | None:
    """Return what is wrong with the URL, if anything is."""
    try:
        check_broker_url(url)
    except InputError as exc:
        return str(exc)
    return None


def received(url: str) -> set[tuple[str | None, str | None]]:
    """Return the user and the password that redis-py and kombu send."""
    for_redis = parse_url(url)
    for_kombu = Connection(kombu_url(url)[0])
    users = for_redis.get("username"), for_kombu.userid
    return set(zip(users, (for_redis.get("password"), for_kombu.password), strict=True))


@fast
@given(password=passwords, user=st.sampled_from(["", "me"]))
def test_an_encoded_password_arrives_as_it_is(password: str, user: str) -> None:
    """Both libraries send the same one."""
    url = f"redis://{user}:{quote(password, safe='')}@h:1/2"
    assert fault_of(url) is None
    assert received(url) == {(user or None, password)}


@fast
@given(password=passwords, account=st.sampled_from([":", "me:"]))
def test_a_raw_password_arrives_as_it_is_or_is_refused_without_being_shown(password: str, account: str) -> None:
    """The message names each character to encode; one that reads as encoded counts as that, as in any URL."""
    fault = fault_of(f"redis://{account}{password}@h:1/2")
    if fault is None:
        [(_, arrived)] = received(f"redis://{account}{password}@h:1/2")
        assert arrived == unquote(password)
        assert "%" in password or arrived == password
    else:
        assert MARK not in fault and "\n" not in fault
        codes = set(re.findall(r"(%[0-9A-F]{2}) where", fault))
        assert codes and codes <= {quote(letter, safe="") for letter in password} | {"%80"}


@fast
@given(password=passwords)
def test_a_password_that_lacks_its_colon_is_never_shown(password: str) -> None:
    """It stands where a user's name would; with a colon of its own it cannot be told from a name and a password."""
    url = f"redis://{password}@h:1/2"
    fault = fault_of(url)
    assert MARK not in (fault or "") + shown_broker(url) + without_passwords(f"no {quote(url, safe='/:@')}")
    if ":" not in password:
        assert fault is not None and "a colon before a password alone, redis://:PASSWORD@HOST" in fault
    if fault is None:
        assert MARK not in Broker(url).shown_url


@fast
@given(
    password=passwords,
    form=st.sampled_from(
        [
            "redis://:{}@h:1/2", "rediss://me:{}@h", "redis://{}@h", "sentinel://:{}@h", "unix://:{}@/tmp/s", "redis://:{}",
            "redis://h/0?password={}", "http://key:{}@h:9000", "s3://key:{}@bucket/run", "https://{}@proxy:3128",
        ]
    ),
    encoded=st.booleans(),
)  # fmt: skip
def test_no_text_shows_what_a_url_in_the_environment_has_for_a_password(
    password: str, form: str, encoded: bool
) -> None:
    """Neither the URL as a whole nor the password alone, raw or encoded, as a library may quote them."""
    written = quote(password, safe="") if encoded or "=" in form else password
    url = form.format(written)
    environment = {BROKER_VARIABLE: url} if "redis" in form else {"AWS_ENDPOINT_URL": url, "HTTPS_PROXY": url}
    has_at = "@" in form or "=" in form
    known = secrets_of(environment) if has_at else ()
    texts = [url, f"cannot open {url!r} now", *([f"got {written}", f"got {password}"] if has_at else [])]
    for text in texts if has_at else []:
        assert MARK not in without_secrets(text, known), text
    assert MARK not in shown_broker(url)
