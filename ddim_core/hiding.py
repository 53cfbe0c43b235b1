"""What is made of text before it is shown: secrets are hidden, and control characters too, which move cursors."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote, unquote_plus

HIDDEN = "***"

_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
_SHORTEST_SECRET = 6
"""A shorter one stands in too many words; of URLs it is hidden all the same."""

_OF_REDIS = ("redis", "rediss", "valkey", "valkeys", "unix", "sentinel")
_OF_SERVICES = re.compile("proxy|endpoint|broker|redis", re.IGNORECASE)
"""Variables that name a service, and nothing in it."""
_WITH_ACCOUNT = re.compile(rf"\b({'|'.join(_OF_REDIS)}|https?|s3[an]?|socks[45]?h?|amqps?):/{{1,2}}", re.IGNORECASE)

_FORMS = (":PASSWORD", "USER:PASSWORD", "USER:")
"""What our own messages have a person write."""

# What stands before an @ is hidden whole: a password that lacks its colon is taken for the name of a user.
_SCHEME = r"\b[a-z][a-z0-9+.-]*:"
_HIDDEN_IN_TEXT = (
    # Here nothing but a password holds an @, whatever else a person left in it that should have been encoded.
    re.compile(rf"(\b(?:{'|'.join(_OF_REDIS)})://?)(\S*)@", re.IGNORECASE),
    # Up to the last @ before a slash: a password may hold others.
    re.compile(rf"({_SCHEME}//)([^\s/]*)@", re.IGNORECASE),
    # A secret key with a slash in it, and not a port with a path after it.
    re.compile(rf"({_SCHEME}//?)([^\s/:@]*:(?!\d{{1,5}}(?:[/?#\s]|$))[^\s@]*)@", re.IGNORECASE),
)
_WORDS = "passw|passphrase|pwd|token|secret|signature|credential|access_?key|api_?key"
_QUERY_SECRET = re.compile(rf"([?&][\w.-]*(?:{_WORDS})[\w.-]*=)([^\s&#]*[^\s&#'\"])", re.IGNORECASE)


# But for tabs and ends of lines; the others move a terminal's cursor, colour it, or turn the direction of a line.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def without_controls(text: str) -> str:
    """Return ``text`` with its control characters as escapes, so that a terminal shows what is there."""
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def without_passwords(text: str) -> str:
    """Return ``text`` with the account of every URL in it replaced, and with the secrets of its query."""
    for pattern in _HIDDEN_IN_TEXT:
        text = pattern.sub(lambda match: f"{match[1]}{_hidden(match[2])}@", text)
    return _QUERY_SECRET.sub(rf"\1{HIDDEN}", text)


def public_url(url: str) -> str:
    """Return a URL as it may be shown: without its account, and without its query, which may hold a secret."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    account, at, place = rest.rpartition("@")
    if re.search(r"[/?#]", account):  # no telling what is part of a password
        return f"{scheme}{separator}{HIDDEN}"
    return f"{scheme}{separator}{_hidden(account)}{at}{re.split('[?#]', place)[0]}"


def secrets_in(environment: Mapping[str, str], *arguments: str) -> tuple[str, ...]:
    """Return what must not be shown: the store's secrets, and those of URLs in variables and ``arguments``.

    The longest come first, since one may be part of another.
    """
    found = {environment.get(name, "") for name in _SECRET_VARIABLES}
    for name, value in environment.items():  # a package index may have an account, too
        found.update(_secrets_of(value, is_service=bool(_OF_SERVICES.search(name))))
    for argument in arguments:
        found.update(_secrets_of(argument[argument.find("=") + 1 :] if argument.startswith("-") else argument))
    return tuple(sorted((one for one in found if len(one) >= _SHORTEST_SECRET), key=len, reverse=True))


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """Return ``text`` without the ``secrets``, and without the password of any URL."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return without_passwords(text)


def current_traceback(secrets: Iterable[str]) -> str:
    """Return the traceback of the exception that is being handled; exceptions of libraries quote URLs."""
    return without_secrets(traceback.format_exc().rstrip(), secrets)


def _hidden(account: str) -> str:
    """Return what is shown of an account: where it has a colon, and nothing else."""
    if account in _FORMS:
        return account
    return ":".join(HIDDEN if part else "" for part in account.split(":", 1))


def _secrets_of(url: str, *, is_service: bool = False) -> Iterator[str]:
    """Yield a URL's secrets, as it has them and as they are, also of one that is misspelt."""
    name, colon, password = _account_of(url, is_service).partition(":")
    # A raw slash may end the account for whoever reads the URL, so that a message quotes what comes before it.
    parts = [name + colon + password, password, *re.split("[/?#]", password)] if password else [name]
    for secret in (*parts, *(match[2] for match in _QUERY_SECRET.finditer(url))):
        for form in {secret, unquote(secret), unquote_plus(secret)}:
            yield from (form, repr(form)[1:-1], ascii(form)[1:-1])  # as a library quotes it, as a terminal gets it


def _account_of(url: str, is_service: bool) -> str:
    """Return what stands before the @ of a URL that may have an account.

    It is the last @ of a URL of Redis, and of one that is known to be a service: their paths have none.
    """
    if (match := _WITH_ACCOUNT.search(url)) is None:
        return ""
    scheme, rest = match[1].lower(), url[match.end() :]
    if is_service or scheme in _OF_REDIS:
        return rest.rpartition("@")[0]
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return authority.rpartition("@")[0]
    has_raw_slash = ":" in authority and not re.search(r":\d{1,5}$", authority)
    return rest.rpartition("@")[0] if has_raw_slash else ""
