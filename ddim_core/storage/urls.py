"""Store URLs: which are accepted, and the one form in which they travel."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from ddim_core.errors import OutputError
from ddim_core.hiding import HIDDEN

SCHEMES = ("file", "s3")

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")


def normalise_url(url: str) -> str:
    """Return a store URL in one form: an absolute ``file://`` URL for a path, no trailing slash.

    A ``file://`` URL is percent-encoded, as everywhere; what follows ``s3://`` is taken as written, as AWS tools do.

    Raises:
        OutputError: The scheme is not one of ``SCHEMES``, a bucket is missing, or no folder can have that name.
    """
    if not url.strip() or "\0" in url:
        raise OutputError(f"a store URL must name a folder or a bucket, got {url!r}")
    match = _SCHEME.match(url)
    scheme = match[1].lower() if match else None
    if scheme is None:
        return _folder_url(Path(url), url)
    rest = url[len(scheme) + 1 :]
    if scheme != "file":
        _refuse_credentials(rest)
    if scheme not in SCHEMES:
        allowed = ", ".join(f"{known}://" for known in SCHEMES)
        raise OutputError(f"a store URL must start with one of {allowed} or be a path, got {_shown(url)!r}")
    return _file_url(rest, url) if scheme == "file" else _bucket_url(rest, url)


def folder_of(url: str) -> Path:
    """Return the folder that a ``file://`` URL in its one form names."""
    return Path(unquote(url.removeprefix("file://")))


def bucket_of(url: str) -> tuple[str, str]:
    """Return bucket and prefix that an ``s3://`` URL in its one form names; the prefix may be empty."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix


def _refuse_credentials(rest: str) -> None:
    """Raise OutputError for ``//key:secret@bucket/...``, without showing it; a secret key may hold slashes."""
    first = rest.lstrip("/").partition("/")[0]
    if "@" in first or ("@" in rest and re.search(r"[^a-z0-9._-]", first)):  # no bucket has such a name
        raise OutputError("a store URL must hold no credentials, got some; set AWS_ACCESS_KEY_ID and the like instead")


def _shown(url: str) -> str:
    """Return a URL without its query, in which another tool may take a secret."""
    return f"{url.partition('?')[0]}?{HIDDEN}" if "?" in url else url


def _file_url(rest: str, url: str) -> str:
    path = rest.removeprefix("//localhost") if rest.startswith("//localhost/") else rest.removeprefix("//")
    if not rest.startswith("//") or not path.startswith("/"):
        raise OutputError(f"a file URL must be absolute, as in file:///data/run, got {url!r}")
    return _folder_url(Path(unquote(path)), url)


def _bucket_url(rest: str, url: str) -> str:
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if not rest.startswith("//") or not bucket:
        raise OutputError(f"an s3 URL must name a bucket, as in s3://bucket/folder, got {_shown(url)!r}")
    segments = [segment for segment in prefix.split("/") if segment]
    if ":" in bucket or "." in segments or ".." in segments or re.search(r"[?#]", rest):
        rule = "must be s3://bucket/folder, with no port, '.', '..', '?' or '#'"
        raise OutputError(f"an s3 URL {rule}, got {_shown(url)!r}")
    return "/".join((f"s3://{bucket}", *segments))


def _folder_url(path: Path, url: str) -> str:
    """Return the URL of the path; links stay as they are, since another host may have the same name lead elsewhere."""
    try:
        path = path.expanduser().absolute()
        path = path.resolve() if ".." in path.parts else path
        if "\0" in str(path):  # in a URL, where it was %00
            raise ValueError("a name has no null character")
        return path.as_uri()
    except (OSError, RuntimeError, ValueError) as exc:  # the last for what is no text, such as half a surrogate pair
        raise OutputError(f"the path {url!r} must name a folder: {exc}") from exc
