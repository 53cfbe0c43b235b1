"""The URL of Redis, which may hold a password: where producer and workers learn it, and what both libraries make of it.

redis-py and kombu read URLs differently, and for ``rediss://`` kombu alone verifies nobody unless it is told to.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ddim_core.errors import InputError
from ddim_core.hiding import public_url, secrets_in

BROKER_VARIABLE = "DDIM_FLEET_BROKER"
BROKER_FILE_VARIABLE = "DDIM_FLEET_BROKER_FILE"

SCHEMES = ("redis", "rediss")
"""Plain, and by TLS."""

_MAX_FILE_BYTES = 16_384
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_WORDS = {"ssl_cert_reqs": ("required", "none"), "ssl_check_hostname": ("true", "false")}
_TLS_OPTIONS = (*_TLS_FILES, *_TLS_WORDS)


def named_broker(given: str | None, environment: Mapping[str, str]) -> str | None:
    """Return the URL that was ``given``, or else that of ``DDIM_FLEET_BROKER``, or else that in a file.

    ``DDIM_FLEET_BROKER_FILE`` names the file, as Docker and Kubernetes mount secrets. None: nothing names a broker.

    Raises:
        InputError: The file cannot be read, or does not hold one line.
    """
    if url := given or environment.get(BROKER_VARIABLE):
        return url
    path = environment.get(BROKER_FILE_VARIABLE)
    return _only_line(Path(path)) if path else None


def secrets_of(environment: Mapping[str, str], *arguments: str) -> tuple[str, ...]:
    """Return what a process with this environment and these arguments must not show."""
    try:
        broker = named_broker(None, environment)
    except InputError:  # a file that cannot be read keeps its secret
        broker = None
    return secrets_in(environment, broker or "", *arguments)


def check_broker_url(url: str) -> None:
    """Make sure that redis-py and kombu both take a URL, and take it for the same place.

    Raises:
        InputError: One of them would not; says why, without the password.
    """
    shown = public_url(url)
    try:
        parts = urlsplit(url)
        port = 6379 if parts.port is None else parts.port
    except ValueError:  # a port that is no number, or brackets that are no address
        raise InputError(f"the broker's URL must be redis://HOST:PORT/NUMBER, got {shown!r}") from None
    if parts.scheme not in SCHEMES:
        allowed = " or ".join(f"{scheme}://" for scheme in SCHEMES)
        raise InputError(f"the broker's URL must start with {allowed}, got {shown!r}")
    database = parts.path.strip("/")
    if not port or (database and not database.isdecimal()) or parts.fragment:
        raise InputError(f"the broker's URL must be redis://HOST:PORT/NUMBER, got {shown!r}")
    if ";" in url:  # where kombu begins another URL
        raise InputError(f"the broker's URL must have %3B where a password has a semicolon, got {shown!r}")
    _check_options(parts.query, shown, tls=parts.scheme == "rediss")


def kombu_url(url: str) -> tuple[str, dict[str, Any] | None]:
    """Return a checked URL without its options, and what kombu needs to be told of TLS; None without TLS."""
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url, None
    given = dict(parse_qsl(parts.query))
    options: dict[str, Any] = {name: given[name] for name in _TLS_FILES if name in given}
    unverified = given.get("ssl_cert_reqs") == "none"
    options["ssl_cert_reqs"] = ssl.CERT_NONE if unverified else ssl.CERT_REQUIRED
    options["ssl_check_hostname"] = not unverified and given.get("ssl_check_hostname") != "false"
    return parts._replace(query="").geturl(), options


def _check_options(query: str, shown: str, *, tls: bool) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _TLS_OPTIONS:
            known = ", ".join(_TLS_OPTIONS)
            rule = f"must have no option but {known}; user and password stand before an @"
            raise InputError(f"the broker's URL {rule}, got another one in {shown!r}")
        if not tls:
            raise InputError(f"the broker's URL must start with rediss:// to have {name}, got {shown!r}")
        if name in _TLS_WORDS and value not in _TLS_WORDS[name]:
            allowed = " or ".join(_TLS_WORDS[name])
            raise InputError(f"{name} in the broker's URL must be {allowed}, got {value!r:.80} in {shown!r}")
        if name in _TLS_FILES and not Path(value).is_file():
            raise InputError(f"{name} in the broker's URL must name a file, got {value!r:.200} in {shown!r}")


def _only_line(path: Path) -> str:
    """Return the line that a file holds; what is wrong with it is told without quoting it."""
    try:
        with path.open("rb") as file:
            words = file.read(_MAX_FILE_BYTES).decode(errors="replace").split()
    except OSError as exc:
        why = (exc.strerror or str(exc)).lower()
        raise InputError(f"{BROKER_FILE_VARIABLE} must name a file that can be read, got {path}: {why}") from exc
    if len(words) != 1:
        raise InputError(
            f"{BROKER_FILE_VARIABLE} must name a file with one URL in it, got {len(words)} words in {path}"
        )
    return words[0]
