"""What is made of text before it is shown: secrets are hidden, and control characters too, which move cursors."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs, unquote, urlsplit

HIDDEN = "***"

_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
_SHORTEST_SECRET = 6
"""A shorter one stands in too many words; of URLs it is hidden all the same."""
# Up to the last @: a password may hold others.
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://?[^\s:/@]*:)[^\s/]*@", re.IGNORECASE)
_QUERY_PASSWORD = re.compile(r"([?&][\w-]*(?:password|token|secret)=)[^\s&#'\"]+", re.IGNORECASE)


# But for tabs and ends of lines; the others move a terminal's cursor, colour it, or turn the direction of a line.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def without_controls(text: str) -> str:
    """Return ``text`` with its control characters as escapes, so that a terminal shows what is there."""
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def without_passwords(text: str) -> str:
    """Return ``text`` with the password of every URL in it replaced."""
    return _QUERY_PASSWORD.sub(rf"\1{HIDDEN}", _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text))


def public_url(url: str) -> str:
    """Return a URL as it may be shown: without its password and its query, which may hold another."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    account, at, place = rest.rpartition("@")
    if re.search(r"[/?#]", account):  # no telling what is part of a password
        return f"{scheme}{separator}{HIDDEN}"
    shown = f"{account.partition(':')[0]}:{HIDDEN}@" if at else ""
    return f"{scheme}{separator}{shown}{re.split('[?#]', place)[0]}"


def secrets_in(environment: Mapping[str, str], *arguments: str) -> tuple[str, ...]:
    """Return what must not be shown: the store's secrets, and passwords of URLs in ``arguments``, options or not.

    The longest come first, since one may be part of another.
    """
    found = {environment.get(name, "") for name in _SECRET_VARIABLES}
    for argument in arguments:
        found |= _passwords_in(argument[argument.find("=") + 1 :] if argument.startswith("-") else argument)
    return tuple(sorted((one for one in found if len(one) >= _SHORTEST_SECRET), key=len, reverse=True))


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` without the ``secrets``, and without the password of any URL."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return without_passwords(text)


def current_traceback(secrets: Iterable[str]) -> str:
    """Return the traceback of the exception that is being handled; exceptions of libraries quote URLs."""
    return without_secrets(traceback.format_exc().rstrip(), secrets)


def _passwords_in(url: str) -> set[str]:
    """Return a URL's passwords, as it has them and as they are."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return set()
    in_query = {value for name in ("password", "ssl_password") for value in parse_qs(parts.query).get(name, [])}
    encoded = {parts.password or "", *re.findall(r"password=([^&]*)", parts.query)}
    return encoded | in_query | {unquote(one) for one in encoded}
