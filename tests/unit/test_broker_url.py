"""The broker's URL: from where it comes, what both libraries make of it, and that errors do not show its password."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest

from ddim_core.broker_url import (
    BROKER_FILE_VARIABLE,
    BROKER_VARIABLE,
    check_broker_url,
    kombu_url,
    named_broker,
    secrets_of,
)
from ddim_core.errors import InputError

SECRET = "hunter2-secret"


def test_an_option_comes_before_the_variable_and_the_variable_before_the_file(tmp_path: Path) -> None:
    """Whoever says something later in the chain of command has the last word."""
    file = tmp_path / "url"
    file.write_text("redis://file\n")
    environment = {BROKER_VARIABLE: "redis://variable", BROKER_FILE_VARIABLE: str(file)}
    assert named_broker("redis://option", environment) == "redis://option"
    assert named_broker(None, environment) == "redis://variable"
    assert named_broker(None, {**environment, BROKER_VARIABLE: ""}) == "redis://file"
    assert named_broker(None, {}) is None


@pytest.mark.parametrize("content", ["", "\n", f"redis://:{SECRET}@h one", f"{SECRET}\n{SECRET}"])
def test_a_file_that_is_no_url_is_told_without_quoting_it(tmp_path: Path, content: str) -> None:
    """It may be the wrong secret."""
    file = tmp_path / "url"
    file.write_text(content)
    count = len(content.split())
    message = (
        f"^DDIM_FLEET_BROKER_FILE must name a file with one URL in it, got {count} words in {re.escape(str(file))}$"
    )
    with pytest.raises(InputError, match=message):
        named_broker(None, {BROKER_FILE_VARIABLE: str(file)})


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (f"redis://:a {SECRET}@h".encode(), "must have %20 where a password has a space, got 'redis://:***@h'"),
        (f"redis://:\xe9{SECRET}@h".encode("latin-1"), f"{BROKER_FILE_VARIABLE} must name a file in UTF-8"),
        (f"redis://{SECRET}@h".encode(), "must have a colon before a password alone, redis://:PASSWORD@HOST"),
    ],
)
def test_a_password_in_a_file_that_would_arrive_changed_is_refused(tmp_path: Path, content: bytes, rule: str) -> None:
    """An editor's encoding, and what a shell would have to quote, come to light here and not at the server."""
    file = tmp_path / "url"
    file.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(rule)) as caught:
        check_broker_url(named_broker(None, {BROKER_FILE_VARIABLE: str(file)}) or "")
    assert SECRET not in str(caught.value)


def test_a_mark_and_blanks_around_a_url_are_no_part_of_it(tmp_path: Path) -> None:
    """Editors and shells leave them."""
    file = tmp_path / "url"
    file.write_bytes("\ufeff redis://:p@h\r\n".encode())
    assert named_broker(None, {BROKER_FILE_VARIABLE: str(file)}) == "redis://:p@h"
    assert named_broker(" redis://:p@h\n", {}) == "redis://:p@h"


def test_a_file_that_cannot_be_read_is_told_with_the_reason(tmp_path: Path) -> None:
    """Missing, or a folder."""
    for path, why in ((tmp_path / "none", "no such file or directory"), (tmp_path, "is a directory")):
        message = f"^DDIM_FLEET_BROKER_FILE must name a file that can be read, got {re.escape(str(path))}: {why}$"
        with pytest.raises(InputError, match=message):
            named_broker(None, {BROKER_FILE_VARIABLE: str(path)})


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        (f"http://u:{SECRET}@h", "the broker's URL must start with redis:// or rediss://, got 'http://***:***@h'"),
        (f"redis://u:{SECRET}@h:x/0", "the broker's URL must be redis://HOST:PORT/NUMBER, got 'redis://***'"),
        (f"redis://u:{SECRET}@h/a", "the broker's URL must be redis://HOST:PORT/NUMBER, got 'redis://***'"),
        (
            f"redis://u:{SECRET}",
            "the broker's URL must be redis://HOST:PORT/NUMBER, got 'redis://***'; with a password, ",
        ),
        (f"redis://u:x/{SECRET}@h", "the broker's URL must have %2F where a password has /, got 'redis://***'"),
        (f"redis://u:x#{SECRET}@h", "the broker's URL must have %23 where a password has #, got 'redis://***'"),
        (f"redis://:12/{SECRET}@h", "the broker's URL must have %2F where a password has /, got 'redis://***'"),
        (
            f"redis://:?[{SECRET}@h",
            "the broker's URL must have %3F where a password has ?, and %5B where a password has [",
        ),
        (f"redis://:%{SECRET}@h", "the broker's URL must have %25 where a password has %, got 'redis://:***@h'"),
        (f"redis://:@{SECRET}@h", "the broker's URL must have %40 where a password has @, got 'redis://:***@h'"),
        (f"redis://: {SECRET}@h", "the broker's URL must have %20 where a password has a space, got 'redis://:***@h'"),
        (f"redis://:\t{SECRET}@h", "the broker's URL must have %09 where a password has the control character 9, got"),
        (f"redis://:%FF{SECRET}@h", "a password in the broker's URL must be percent-encoded UTF-8, got 'redis://:***"),
        (
            f"redis://{SECRET}@h",
            "the broker's URL must have a colon before a password alone, redis://:PASSWORD@HOST (for a user without "
            "one, redis://USER:@HOST), got 'redis://***@h'",
        ),
        (SECRET, "the broker's URL must start with redis:// or rediss://, got '***'"),
        (f"unix://:{SECRET}@/tmp/socket", "the broker's URL must start with redis:// or rediss://, got '***'"),
        (f"sentinel://:{SECRET}@h", "the broker's URL must start with redis:// or rediss://, got 'sentinel://:***@h'"),
        (f"REDIS://:{SECRET}@h", "the broker's URL must start with redis:// or rediss://, got 'REDIS://:***@h'"),
        (f"redis://u:;{SECRET}@h", "the broker's URL must have %3B where a password has a semicolon, got"),
        (f"redis://h?password={SECRET}", "the broker's URL must have no option but ssl_ca_certs, ssl_certfile"),
        ("rediss://h?credential_provider=os.system", "the broker's URL must have no option but ssl_ca_certs"),
        (f"redis://u:{SECRET}@h?ssl_cert_reqs=none", "the broker's URL must start with rediss:// to have ssl_cert_"),
        (
            f"rediss://u:{SECRET}@h?ssl_cert_reqs=CERT_NONE",
            "ssl_cert_reqs in the broker's URL must be required or none",
        ),
        (f"rediss://:x?ssl_ca_certs={SECRET}@h", "the broker's URL must have %3F where a password has ?, got"),
        (f"rediss://:a@b?ssl_ca_certs={SECRET}@h", "ssl_ca_certs in the broker's URL must name a file, got '***' in"),
        (f"rediss://u:{SECRET}@h?ssl_ca_certs=/none", "ssl_ca_certs in the broker's URL must name a file, got '/none'"),
    ],
)
def test_a_url_that_one_library_would_take_otherwise_is_refused(url: str, rule: str) -> None:
    """Before anything is sent, and without the password."""
    with pytest.raises(InputError, match=f"^{re.escape(rule)}") as caught:
        check_broker_url(url)
    assert SECRET not in str(caught.value)


def test_kombu_is_told_to_verify_whoever_answers(tmp_path: Path) -> None:
    """By itself it takes any certificate, and would show it the password."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    url = f"rediss://u:{SECRET}@h:1/2?ssl_ca_certs={ca}"
    check_broker_url(url)
    assert kombu_url(url) == (
        f"rediss://u:{SECRET}@h:1/2",
        {"ssl_ca_certs": str(ca), "ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True},
    )
    assert kombu_url("redis://h") == ("redis://h", None)
    assert kombu_url("rediss://h?ssl_cert_reqs=none")[1] == {
        "ssl_cert_reqs": ssl.CERT_NONE,
        "ssl_check_hostname": False,
    }


def test_what_a_process_must_not_show_is_known_from_wherever_it_was_told(tmp_path: Path) -> None:
    """From the environment, a file, an option; as it is and as a URL has it."""
    file = tmp_path / "url"
    file.write_text("redis://:in-the-file@h")
    environment = {BROKER_FILE_VARIABLE: str(file), "AWS_SECRET_ACCESS_KEY": "key-of-the-store", "AWS_REGION": "region"}
    found = secrets_of(environment, "submit", "--broker=redis://u:an%40option@h", "redis://u:argument@h", "p.jsonl")
    passwords = {"in-the-file", "key-of-the-store", "an%40option", "an@option", "argument"}
    assert set(found) == passwords | {":in-the-file", "u:an%40option", "u:an@option", "u:argument"}
    assert list(found) == sorted(found, key=len, reverse=True)
    assert secrets_of({BROKER_FILE_VARIABLE: "/none"}) == ()
