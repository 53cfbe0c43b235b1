"""The URL of Redis, which may hold a password: where producer and workers learn it, and what both libraries make of it.

redis-py and kombu read URLs differently, and for ``rediss://`` kombu alone verifies nobody unless it is told to.
"""

from __future__ import annotations

import re
import ssl
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote_to_bytes, urlsplit

from ddim_core.errors import InputError
from ddim_core.hiding import HIDDEN, public_url, secrets_in

BROKER_VARIABLE = "DDIM_FLEET_BROKER"
BROKER_FILE_VARIABLE = "DDIM_FLEET_BROKER_FILE"

SCHEMES = ("redis", "rediss")
"""Plain, and by TLS."""

_MAX_FILE_BYTES = 16_384
_FORM = "redis://HOST:PORT/NUMBER"
_PASSWORD_FORM = "redis://:PASSWORD@HOST"  # noqa: S105 - its form
_ACCOUNT = r"((\*\*\*)?(:(\*\*\*)?)?@)?"  # as it is hidden
_SHOWN = re.compile(
    rf"[a-z][a-z0-9+.-]*://{_ACCOUNT}([\w.-]+|\[[0-9a-f:.]+\])(:\d{{1,5}})?(/\d{{0,5}})?", re.IGNORECASE
)
_BARE = re.compile(r"(localhost|[\w-]+(\.[\w-]+)+):\d{1,5}(/\d{0,5})?")
_DATABASE = re.compile(r"/?|/[0-9]{1,9}")
_RESERVED = " #/?[]@;"
"""What ends a password, or the whole URL, for urllib or for kombu."""
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SPACES = " \t\r\n"
_NAMES = {" ": "a space", ";": "a semicolon"}
_OWN_OPTION = re.compile(r"[?&](?:username|password)=", re.IGNORECASE)
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
        return url.strip(_SPACES)
    path = environment.get(BROKER_FILE_VARIABLE)
    return _only_line(Path(path)) if path else None


def secrets_of(environment: Mapping[str, str], *arguments: str) -> tuple[str, ...]:
    """Return what a process with this environment and these arguments must not show."""
    try:
        broker = named_broker(None, environment)
    except InputError:  # a file that cannot be read keeps its secret
        broker = None
    return secrets_in(environment, broker or "", *arguments)


def shown_broker(url: str) -> str:
    """Return a broker's URL as it may be shown: nothing of one that may hold a password in a place of its own."""
    shown = public_url(url)
    if _SHOWN.fullmatch(shown) or _BARE.fullmatch(shown):
        return shown
    return next((f"{scheme}://{HIDDEN}" for scheme in SCHEMES if url.startswith(f"{scheme}://")), HIDDEN)


def check_broker_url(url: str) -> None:
    """Make sure that redis-py and kombu both take a URL, and take it for the same place and the same password.

    Raises:
        InputError: One of them would not; says why, and what to write, without the account.
    """
    shown = shown_broker(url)
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        allowed = " or ".join(f"{scheme}://" for scheme in SCHEMES)
        raise InputError(f"the broker's URL must start with {allowed}, got {shown!r}")
    if not _OWN_OPTION.search(url):
        _check_account(_account_of(url), shown)
    parts = _split(url)
    if parts is None or not _DATABASE.fullmatch(parts.path) or parts.fragment:
        raise InputError(f"the broker's URL must be {_FORM}, got {shown!r}; with a password, {_PASSWORD_FORM}")
    if ";" in url:  # where kombu begins another URL
        raise InputError(f"the broker's URL must have %3B where a name has a semicolon, got {shown!r}")
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


def _is_taken_for_reserved(letter: str) -> bool:
    """Return whether urllib refuses it for what it is compatible with, such as the sign for "care of"."""
    return not letter.isascii() and bool(set(unicodedata.normalize("NFKC", letter)) & set("/?#@:"))


def _split(url: str) -> SplitResult | None:
    """Return a URL's parts; None for a port that is none, or brackets that are no address."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:  # its text quotes the URL
        return None


def _account_of(url: str) -> str:
    """Return what stands before the @ of the host, encoded or not.

    A path has no @: what follows one of ``/?#`` and has an @ is the rest of a password, unless it is options we know.
    """
    rest = url.partition("://")[2]
    match = re.search("[/?#]", rest)
    authority, tail = (rest, "") if match is None else (rest[: match.start()], rest[match.start() :])
    path, _, query = tail.partition("?")
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    is_sound = _DATABASE.fullmatch(path) and all(name in _TLS_OPTIONS for name in names) and "@" in authority
    return (authority if is_sound or "@" not in tail else rest).rpartition("@")[0]


def _check_account(account: str, shown: str) -> None:
    """Refuse what would not arrive as it is meant, saying which characters to encode; of the rest nothing is told.

    Raises:
        InputError: The account has characters that a URL gives another meaning, or no colon before its password.
    """
    rules = [f"{code} where a password has {name}" for name, code in dict(_unencoded(account)).items()]
    if account and ":" not in account:
        rules.append(f"a colon before a password alone, {_PASSWORD_FORM} (for a user without one, redis://USER:@HOST)")
    if rules:
        raise InputError(f"the broker's URL must have {', and '.join(rules)}, got {shown!r}")
    try:
        unquote_to_bytes(account).decode()
    except UnicodeError:
        raise InputError(f"a password in the broker's URL must be percent-encoded UTF-8, got {shown!r}") from None


def _unencoded(account: str) -> Iterator[tuple[str, str]]:
    """Yield each character that must be encoded, in words, with its code."""
    if _STRAY_PERCENT.search(account):
        yield "%", "%25"
    for letter in account:
        if letter in _RESERVED or _is_taken_for_reserved(letter):
            yield _NAMES.get(letter, letter), quote(letter, safe="")
        elif letter < " " or letter == "\x7f":
            yield f"the control character {ord(letter)}", quote(letter)


def _check_options(query: str, shown: str, *, tls: bool) -> None:
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _TLS_OPTIONS:
            known = ", ".join(_TLS_OPTIONS)
            rule = f"must have no option but {known}; user and password stand before the @ of {_PASSWORD_FORM}"
            raise InputError(f"the broker's URL {rule}, got another one in {shown!r}")
        if not tls:
            raise InputError(f"the broker's URL must start with rediss:// to have {name}, got {shown!r}")
        if name in _TLS_WORDS and value not in _TLS_WORDS[name]:
            allowed = " or ".join(_TLS_WORDS[name])
            raise InputError(f"{name} in the broker's URL must be {allowed}, got another value in {shown!r}")
        if name in _TLS_FILES and not Path(value).is_file():
            got = HIDDEN if "@" in value else value  # which may be a password that was not encoded
            raise InputError(f"{name} in the broker's URL must name a file, got {got!r:.200} in {shown!r}")


def _only_line(path: Path) -> str:
    """Return the line that a file holds; what is wrong with it is told without quoting it."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode("utf-8-sig").strip(_SPACES)
    except OSError as exc:
        why = (exc.strerror or str(exc)).lower()
        raise InputError(f"{BROKER_FILE_VARIABLE} must name a file that can be read, got {path}: {why}") from exc
    except UnicodeDecodeError:
        raise InputError(f"{BROKER_FILE_VARIABLE} must name a file in UTF-8, got another encoding in {path}") from None
    words = re.split(f"[{_SPACES}]+", text) if text else []
    if len(words) != 1 and not _has_spaces_in_account(text):
        raise InputError(
            f"{BROKER_FILE_VARIABLE} must name a file with one URL in it, got {len(words)} words in {path}"
        )
    return text


def _has_spaces_in_account(text: str) -> bool:
    """Return whether it is one URL after all, whose password has spaces: the check of the URL says what to do."""
    return bool(re.fullmatch(rf"rediss?://[^{_SPACES}]*[^\r\n]*@[^{_SPACES}]*", text))
