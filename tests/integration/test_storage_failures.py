"""A store that is missing, closed or silent is reported in one clear line and before anybody gives up waiting."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator

import pytest

from ddim_core.errors import OutputError, StorageError
from ddim_core.storage.objects import ObjectStore
from tests.integration.s3_server import point_environment_at
from tools.s3_servers import S3Access
from tools.servers import free_port

PATIENCE_S = 25


@pytest.fixture(autouse=True)
def _in_good_time() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < PATIENCE_S + 10


def refusal(url: str) -> str:
    """Return the line that a producer shows, having made sure that it is one and came in time."""
    started = time.monotonic()
    with pytest.raises(OutputError) as caught:
        ObjectStore(url).check_writable()
    assert time.monotonic() - started < PATIENCE_S
    assert re.fullmatch(r"[^\n]{20,500}", str(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("server", ["s3", "swift"])
def test_a_missing_bucket_is_named(server: str, request: pytest.FixtureRequest) -> None:
    """It is the commonest misspelling, and not the same as an empty run."""
    missing = request.getfixturevalue(f"{server}_url") + "-not"
    assert f"there is no bucket '{missing.removeprefix('s3://')}'; create it first" in refusal(f"{missing}/run")
    with pytest.raises(StorageError, match="there is no bucket"):
        ObjectStore(missing).get("run.json")
    with pytest.raises(StorageError, match="there is no bucket"):
        list(ObjectStore(missing).list("parts"))


@pytest.mark.parametrize("server", ["s3", "swift"])
def test_a_bucket_in_the_endpoint_names_the_setting_and_writes_nothing(
    server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These services take such requests without a word, and keep the objects in a folder called like the bucket."""
    url = request.getfixturevalue(f"{server}_url")
    bucket, endpoint = url.removeprefix("s3://"), os.environ["AWS_ENDPOINT_URL"]
    for place in (f"{endpoint}/{bucket}", f"{endpoint}/{bucket}/", f"{endpoint}/other"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", place)
        assert f"AWS_ENDPOINT_URL must be the service without a bucket, {endpoint}, got" in refusal(f"{url}/run")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.replace("127.0.0.1", f"{bucket}.localhost"))
    assert f"without the bucket '{bucket}', {endpoint.replace('127.0.0.1', 'localhost')}, got" in refusal(f"{url}/run")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert not list(ObjectStore(url).list(""))


@pytest.mark.parametrize("server", ["s3", "swift"])
def test_a_host_that_lacks_the_bucket_names_the_setting(
    server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service would take the run's folder for the bucket, and say that there is none, of one that exists."""
    url = request.getfixturevalue(f"{server}_url")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    said = refusal(f"{url}/run")
    assert "AWS_ENDPOINT_URL must begin with the bucket where AWS_VIRTUAL_HOSTED_STYLE_REQUEST is true" in said
    assert "there is no bucket" not in said


def test_wrong_credentials_are_refused(swift_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swift checks signatures, moto does not."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "403 Forbidden: SignatureDoesNotMatch" in refusal(f"{swift_url}/run")


def test_missing_credentials_are_noticed_before_any_request(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Obstore would ask a cloud's metadata service, which is not there."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "needs credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in refusal(f"{s3_url}/run")


def test_a_machine_without_a_role_is_told_to_set_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """On AWS itself a role may give credentials, so the metadata service is asked, and its absence reported."""
    point_environment_at(S3Access("http://127.0.0.1:1", "", ""), monkeypatch)
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    assert "no S3 credentials; set AWS_ACCESS_KEY_ID" in refusal("s3://fleet-bucket/run")


def test_a_closed_port_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint is in the line, since that is what has to be mended."""
    endpoint = f"http://127.0.0.1:{free_port()}"
    point_environment_at(S3Access(endpoint, "key", "secret"), monkeypatch)
    line = refusal("s3://fleet-bucket/run")
    assert "the service cannot be reached: Connection refused" in line
    assert endpoint in line


@pytest.mark.slow
def test_a_silent_service_is_given_up_within_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts connections and never answers, as a frozen gateway does."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        point_environment_at(S3Access(endpoint, "key", "secret"), monkeypatch)
        assert "the service did not answer in time" in refusal("s3://fleet-bucket/run")


def test_a_refused_conditional_put_costs_no_retries(swift_url: str) -> None:
    """Swift answers 501, which obstore would repeat for seconds."""
    store = ObjectStore(f"{swift_url}/run")
    store.put("warm", b"x")
    started = time.monotonic()
    assert store.put_new("run.json", b"{}")
    assert time.monotonic() - started < 1
