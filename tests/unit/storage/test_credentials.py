"""Credentials in a file of the AWS tools."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ddim_core.errors import OutputError
from ddim_core.storage.bucket import check_settings
from ddim_core.storage.credentials import CredentialsFile

FILE = """
[default]
aws_access_key_id = one
aws_secret_access_key = s%cret
[batch]
aws_access_key_id=two
aws_secret_access_key=deep
aws_session_token=token==
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a file with two profiles."""
    path = tmp_path / "credentials"
    path.write_text(FILE)
    return path


def keys(credentials: CredentialsFile | None) -> tuple[str | None, ...]:
    assert credentials is not None
    found = credentials()
    return found["access_key_id"], found["secret_access_key"], found["token"]


def test_the_environment_names_file_and_profile(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the AWS tools; the file in the home directory counts where a profile is named."""
    named = {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    assert keys(CredentialsFile.named_by(named)) == ("one", "s%cret", None)
    assert keys(CredentialsFile.named_by({**named, "AWS_PROFILE": "batch"})) == ("two", "deep", "token==")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    file.rename(tmp_path / ".aws" / "credentials")
    assert keys(CredentialsFile.named_by({"AWS_PROFILE": "batch"}))[0] == "two"


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"])
def test_other_credentials_come_first(file: Path, name: str) -> None:
    """They are obstore's own, and stay as they were; without any of these variables there is no file."""
    assert CredentialsFile.named_by({"AWS_SHARED_CREDENTIALS_FILE": str(file), name: "x"}) is None
    assert CredentialsFile.named_by({}) is None


def test_a_file_is_enough_for_a_service_of_ones_own(file: Path) -> None:
    """No variable holds a key then."""
    check_settings({"AWS_ENDPOINT_URL": "https://obs.example.com", "AWS_SHARED_CREDENTIALS_FILE": str(file)})


def test_rotated_credentials_are_taken_up(file: Path) -> None:
    """Also where the file is gone or half-written for a moment; obstore must ask before each request."""
    credentials = CredentialsFile(file, "default")
    for damaged in ("[default]\naws_access_key_id = new\n", "[other]\n", "nonsense"):
        file.write_text(damaged)
        assert keys(credentials)[0] == "one"
    file.unlink()
    assert keys(credentials)[0] == "one"
    file.write_text("[default]\naws_access_key_id = new\naws_secret_access_key = newer\n")
    os.utime(file, (1, 1))
    assert keys(credentials) == ("new", "newer", None)
    assert (expiry := credentials()["expires_at"]) is not None and expiry <= credentials()["expires_at"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (None, "must be in a file that can be read: .*: No such file"),
        ("secret-line", "must be in an INI file, got something else in "),
        ("[other]\n", "must have the profile 'default' .*, not in "),
        ("[default]\naws_access_key_id = secret-id\n", "profile 'default' must have aws_secret_access_key"),
    ],
)
def test_a_file_that_will_not_do_is_refused_in_one_line(tmp_path: Path, text: str | None, rule: str) -> None:
    """With its path, and without anything that it holds."""
    path = tmp_path / "credentials"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OutputError, match=rule) as caught:
        CredentialsFile(path, "default")
    assert str(path) in str(caught.value) and "secret-" not in str(caught.value) and "\n" not in str(caught.value)
