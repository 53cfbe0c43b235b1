"""S3 servers for tests: moto, a mock, and a real OpenStack Swift from Debian's packages."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from tools.s3_servers import SWIFT_PACKAGES, S3Access, S3Server, missing_for_swift, start_moto, start_swift


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """A running moto server; it takes any credentials."""
    server = start_moto()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running Swift with one replica on a folder; it checks signatures, and knows no conditional puts."""
    if missing := missing_for_swift():
        (pytest.fail if os.environ.get("DDIM_FLEET_TEST_ALL") else pytest.skip)(
            f"{', '.join(missing)} missing: install {SWIFT_PACKAGES}"
        )
    server = start_swift(tmp_path_factory.mktemp("swift"))
    yield server
    server.stop()


@pytest.fixture
def s3_server(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Moto, with the environment set for it."""
    point_environment_at(moto_server.access, monkeypatch)
    return moto_server


@pytest.fixture
def s3_url(s3_server: S3Server) -> str:
    """The URL of a new bucket at moto, with the environment set for it."""
    return _new_bucket(s3_server)


@pytest.fixture
def swift_url(swift_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket at Swift, with the environment set for it."""
    point_environment_at(swift_server.access, monkeypatch)
    return _new_bucket(swift_server)


def point_environment_at(access: S3Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that an S3 store reads, and take away all others of that family."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in access.environment().items():
        monkeypatch.setenv(name, value)


def _new_bucket(server: S3Server) -> str:
    bucket = f"fleet-{uuid.uuid4().hex[:12]}"
    server.make_bucket(bucket)
    return f"s3://{bucket}"
