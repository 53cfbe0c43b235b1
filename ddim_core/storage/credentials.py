"""S3 credentials in a file of the AWS tools, read again whenever it changes, so that rotated ones need no restart."""

from __future__ import annotations

import configparser
import contextlib
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from ddim_core.errors import OutputError

if TYPE_CHECKING:
    from obstore.store import S3Credential

FILE_VARIABLES = ("AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE")
"""Either of them makes the file count; without them nobody wonders why a file in a home directory was used."""
_BEFORE_IT = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE")
"""In the order of the AWS tools; obstore sees to these itself."""
_KEYS = ("aws_access_key_id", "aws_secret_access_key")


class CredentialsFile:
    """A ``credential_provider`` for obstore, which asks before each request; one ``stat`` each time."""

    def __init__(self, path: Path, profile: str) -> None:
        """Read the profile.

        Raises:
            OutputError: The file cannot be read, or lacks the profile or one of its keys.
        """
        self._path, self._profile = path, profile
        self._lock = threading.Lock()
        self._seen = self._signature()
        self._found = self._read()

    @classmethod
    def named_by(cls, environment: Mapping[str, str]) -> CredentialsFile | None:
        """Return the file that the environment names, or None where it names none, or other credentials."""
        if any(environment.get(name) for name in _BEFORE_IT) or not any(map(environment.get, FILE_VARIABLES)):
            return None
        path = environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
        return cls(Path(path).expanduser(), environment.get("AWS_PROFILE") or "default")

    def __call__(self) -> S3Credential:
        """Return the credentials as the file has them now.

        A file that cannot be used at the moment, because whoever rotates it is at it, leaves the last ones.
        """
        with self._lock:
            signature = self._signature()
            if signature != self._seen:
                with contextlib.suppress(OutputError):
                    self._found, self._seen = self._read(), signature
            key_id, secret, token = self._found
        # Expired at once: obstore asks again before the next request, and not only when these are refused.
        now = datetime.now(timezone.utc)
        return {"access_key_id": key_id, "secret_access_key": secret, "token": token, "expires_at": now}

    def _signature(self) -> tuple[int, ...]:
        try:
            stat = self._path.stat()
        except OSError:
            return ()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> tuple[str, str, str | None]:
        place = f"{self._path} (AWS_SHARED_CREDENTIALS_FILE)"
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(self._path.read_text())
        except OSError as exc:
            raise OutputError(f"S3 credentials must be in a file that can be read: {place}: {exc.strerror}") from exc
        except (configparser.Error, UnicodeDecodeError):  # their text may quote a line, and so a secret
            raise OutputError(f"S3 credentials must be in an INI file, got something else in {place}") from None
        if not parser.has_section(self._profile):
            raise OutputError(f"S3 credentials must have the profile {self._profile!r} (AWS_PROFILE), not in {place}")
        section = parser[self._profile]
        for key in _KEYS:
            if not section.get(key):
                raise OutputError(f"the profile {self._profile!r} must have {key}, it is missing in {place}")
        return section[_KEYS[0]], section[_KEYS[1]], section.get("aws_session_token") or None
