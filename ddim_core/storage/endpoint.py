"""S3 settings that lead nowhere, or to another bucket than was named: told before a request is made.

A client cannot tell them from the answers. A bucket that is named twice makes keys that begin with its name, and one
that is named nowhere makes the first folder of a run a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from ddim_core.errors import OutputError
from ddim_core.hiding import public_url
from ddim_core.storage.credentials import FILE_VARIABLES

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""Of several, the first one counts."""
IN_HOST = "AWS_VIRTUAL_HOSTED_STYLE_REQUEST"
SET_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

_TRUE = ("1", "true", "on", "yes", "y")
# Where credentials are found apart from the two keys; but for the file, obstore sees to them.
_OTHER_CREDENTIALS = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
    "AWS_METADATA_ENDPOINT",
    *FILE_VARIABLES,
)


def check_settings(environment: Mapping[str, str]) -> None:
    """Refuse settings with which obstore would panic, or search for credentials where there are none.

    Raises:
        OutputError: Says which variable to set.
    """
    variable, endpoint = _endpoint(environment)
    if endpoint:
        _check_form(variable, endpoint)
    keys = [environment.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    if any(key is not None for key in keys) and not all(keys):
        raise OutputError(f"S3 needs both halves of its credentials; {SET_KEYS}")
    # Without an endpoint this is AWS, where a machine's role may supply them.
    if endpoint and not all(keys) and not any(environment.get(name) for name in _OTHER_CREDENTIALS):
        raise OutputError(f"S3 at {public_url(endpoint)} needs credentials; {SET_KEYS}")


def check_endpoint(environment: Mapping[str, str], bucket: str) -> None:
    """Make sure that the endpoint names ``bucket`` as often as the style of requests wants it: in its host, or not.

    Raises:
        OutputError: It does not; names the variable, and what to write there.
    """
    variable, endpoint = _endpoint(environment)
    if not endpoint:
        return
    parts = urlsplit(endpoint)
    host, folders = parts.hostname or "", [name for name in parts.path.split("/") if name]
    # Some services answer below a path, such as /storage/v1/s3; one name alone is what their consoles show of a bucket.
    if len(folders) == 1 or bucket in folders:
        raise OutputError(
            f"{variable} must be the service without a bucket, {_origin(parts)}, got {public_url(endpoint)!r}; "
            f"the bucket stands in the URL alone, as in s3://{bucket}/..."
        )
    style = environment.get(IN_HOST, "").strip().lower()
    begins_with_it = host.startswith(f"{bucket.lower()}.")
    if style in _TRUE and not begins_with_it:
        raise OutputError(
            f"{variable} must begin with the bucket where {IN_HOST} is true, as in {_origin(parts, f'{bucket}.')}, "
            f"got {public_url(endpoint)!r}; or leave {IN_HOST} out"
        )
    if not style and begins_with_it:
        shorter = _origin(parts).replace(host, host[len(bucket) + 1 :], 1)
        raise OutputError(
            f"{variable} must be the service without the bucket {bucket!r}, {shorter}, got {public_url(endpoint)!r}; "
            f"or set {IN_HOST}=true for requests that have it in the host, =false if that is the service's own name"
        )


def service_of(environment: Mapping[str, str]) -> str:
    """Return in words where buckets are looked for."""
    variable, endpoint = _endpoint(environment)
    return f"{public_url(endpoint)} ({variable})" if endpoint else "AWS (there is no AWS_ENDPOINT_URL)"


def _endpoint(environment: Mapping[str, str]) -> tuple[str, str]:
    return next(((name, environment[name]) for name in ENDPOINTS if environment.get(name)), ("", ""))


def _check_form(variable: str, endpoint: str) -> None:
    if not endpoint.startswith(("http://", "https://")):
        raise OutputError(
            f"the S3 endpoint must start with https:// or http://, got {public_url(endpoint)!r} in {variable}"
        )
    if "@" in endpoint:
        raise OutputError(f"the S3 endpoint must hold no credentials, got some in {variable}; {SET_KEYS} instead")
    try:
        parts = urlsplit(endpoint)
        is_sound = bool(parts.hostname) and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:  # a port that is no number, or brackets that are no address
        is_sound = False
    if not is_sound:
        raise OutputError(f"the S3 endpoint must be https://HOST:PORT, got {public_url(endpoint)!r} in {variable}")


def _origin(parts: SplitResult, before: str = "") -> str:
    return f"{parts.scheme}://{before}{parts.netloc}"
