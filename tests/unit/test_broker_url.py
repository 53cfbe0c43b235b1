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


def test_a_file_that_cannot_be_read_is_told_with_the_reason(tmp_path: Path) -> None:
    """Missing, or a folder."""
    for path, why in ((tmp_path / "none", "no such file or directory"), (tmp_path, "is a directory")):
        message = f"^DDIM_FLEET_BROKER_FILE must name a file that can be read, got {re.escape(str(path))}: {why}$"
        with pytest.raises(InputError, match=message):
            named_broker(None, {BROKER_FILE_VARIABLE: str(path)})


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        (f"http://u:{SECRET}@h", "the broker's URL must start with redis:// or rediss://, got 'http://u:***@h'"),
        (f"redis://u:{SECRET}@h:x/0", "the broker's URL must be redis://HOST:PORT/NUMBER, got 'redis://u:***@h:x/0'"),
        (f"redis://u:{SECRET}@h/a", "the broker's URL must be redis://HOST:PORT/NUMBER, got 'redis://u:***@h/a'"),
        (f"redis://u:x/{SECRET}@h", "the broker's URL must be redis://HOST:PORT/NUMBER, got 'redis://***'"),
        (f"redis://u:x#{SECRET}@h", "the broker's URL must be redis://HOST:PORT/NUMBER, got 'redis://***'"),
        (f"redis://u:;{SECRET}@h", "the broker's URL must have %3B where a password has a semicolon, got"),
        (f"redis://h?password={SECRET}", "the broker's URL must have no option but ssl_ca_certs, ssl_certfile"),
        ("rediss://h?credential_provider=os.system", "the broker's URL must have no option but ssl_ca_certs"),
        (f"redis://u:{SECRET}@h?ssl_cert_reqs=none", "the broker's URL must start with rediss:// to have ssl_cert_"),
        (
            f"rediss://u:{SECRET}@h?ssl_cert_reqs=CERT_NONE",
            "ssl_cert_reqs in the broker's URL must be required or none",
        ),
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
    assert set(found) == {"in-the-file", "key-of-the-store", "an%40option", "an@option", "argument"}
    assert list(found) == sorted(found, key=len, reverse=True)
    assert secrets_of({BROKER_FILE_VARIABLE: "/none"}) == ()
