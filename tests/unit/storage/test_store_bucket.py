"""S3 settings that cannot work are refused at once, and a service's answer becomes one line."""

from __future__ import annotations

import re

import pytest

from ddim_core.errors import OutputError
from ddim_core.storage.bucket import reason
from ddim_core.storage.endpoint import check_endpoint, check_settings

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
ENDPOINT = {"AWS_ENDPOINT_URL": "https://obs.example.com"}


@pytest.mark.parametrize(
    "environment",
    [
        KEYS,
        {**ENDPOINT, **KEYS},
        {},
        {**ENDPOINT, "AWS_SKIP_SIGNATURE": "true"},
        {**ENDPOINT, "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"},
    ],
)
def test_settings_that_can_work_are_accepted(environment: dict[str, str]) -> None:
    """Without an endpoint this is AWS, where a machine's role may give credentials that no variable names."""
    check_settings(environment)


@pytest.mark.parametrize(
    ("environment", "rule"),
    [
        ({**KEYS, "AWS_ENDPOINT_URL": "obs.example.com"}, "must start with https:// or http://, got 'obs.example.com'"),
        ({**KEYS, "AWS_ENDPOINT_URL_S3": "127.0.0.1:9000"}, "must start with https://"),
        (ENDPOINT, "S3 at https://obs.example.com needs credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "key"}, "needs both halves of its credentials"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "needs both halves of its credentials"),
        ({"AWS_SECRET_ACCESS_KEY": "secret"}, "needs both halves of its credentials"),
    ],
)
def test_settings_that_cannot_work_are_refused(environment: dict[str, str], rule: str) -> None:
    """Obstore panics at an endpoint without a scheme, and looks for a machine role where there is none."""
    with pytest.raises(OutputError, match=rule):
        check_settings(environment)


HOSTED = {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "True"}


@pytest.mark.parametrize(
    ("endpoint", "more", "rule"),
    [
        ("https://h:9000/data", {}, "AWS_ENDPOINT_URL must be the service without a bucket, https://h:9000, got"),
        (
            "https://h/other",
            {},
            "AWS_ENDPOINT_URL must be the service without a bucket, https://h, got 'https://h/other'",
        ),
        ("https://h/storage/v1/s3/data/", {}, "AWS_ENDPOINT_URL must be the service without a bucket"),
        (
            "https://h:9000",
            HOSTED,
            "AWS_ENDPOINT_URL must begin with the bucket where AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        ),
        ("https://other.h", HOSTED, "is true, as in https://data.other.h, got 'https://other.h'; or leave"),
        ("https://data.h:1", {}, "AWS_ENDPOINT_URL must be the service without the bucket 'data', https://h:1, got"),
    ],
)
def test_an_endpoint_that_leads_to_another_bucket_is_the_setting_at_fault(
    endpoint: str, more: dict[str, str], rule: str
) -> None:
    """The service would take the first part of a path for the bucket, and write there or say that it is missing."""
    environment = {**KEYS, "AWS_ENDPOINT_URL": endpoint, **more}
    check_settings(environment)
    with pytest.raises(OutputError, match=re.escape(rule)):
        check_endpoint(environment, "data")


@pytest.mark.parametrize(
    ("endpoint", "more"),
    [
        ("https://h:9000/", {}),
        ("https://h/storage/v1/s3", {}),
        ("https://data.h", HOSTED),
        ("https://data.h", {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false"}),
        ("https://database.h", {}),
    ],
)
def test_an_endpoint_that_leads_to_the_bucket_is_accepted(endpoint: str, more: dict[str, str]) -> None:
    """Some services answer below a path; a service may be called like the bucket, which a variable says."""
    environment = {**KEYS, "AWS_ENDPOINT_URL": endpoint, **more}
    check_settings(environment)
    check_endpoint(environment, "data")


@pytest.mark.parametrize("endpoint", ["https://k:hunter2@h", "https://hunter2@h", "https://k:a/hunter2@h:9000"])
def test_an_endpoint_with_credentials_is_refused_and_not_repeated(endpoint: str) -> None:
    """It would stand in every error of the client."""
    with pytest.raises(OutputError, match="must hold no credentials, got some in AWS_ENDPOINT_URL") as caught:
        check_settings({**KEYS, "AWS_ENDPOINT_URL": endpoint})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["https://", "https://h:port", "https://[h", "https://h?x=1", "https://h:0"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    """Obstore would say so in a page."""
    with pytest.raises(OutputError, match=r"^the S3 endpoint must be https://HOST:PORT, got"):
        check_settings({**KEYS, "AWS_ENDPOINT_URL": endpoint})


@pytest.mark.parametrize(
    ("dump", "line"),
    [
        (
            "The operation lacked the necessary privileges: Error performing PUT http://h/b/x in 3ms - Server returned "
            "non-2xx status code: 403 Forbidden: <?xml?>\n<Error><Code>InvalidAccessKeyId</Code><Message>No such key."
            "</Message></Error>\n\nDebug source:\n...",
            "403 Forbidden: InvalidAccessKeyId: No such key. (PUT http://h/b/x)",
        ),
        (
            "Generic S3 error: Error performing GET http://h/b in 9ms - Server returned non-2xx status code: 502 Bad "
            "Gateway: \n\nDebug source:\n...",
            "502 Bad Gateway (GET http://h/b)",
        ),
        (
            "Generic S3 error: Error performing PUT http://h/b in 1s - HTTP error: error sending request\n\nDebug "
            'source:\nkind: Connect, message: "Connection refused"',
            "the service cannot be reached: Connection refused (PUT http://h/b)",
        ),
        (
            "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 20s - HTTP error",
            "no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        (
            "The operation lacked valid authentication credentials for path External AWS credential provider: "
            "OutputError: the profile 'x' must have aws_secret_access_key\n\nDebug source:\n...",
            "the profile 'x' must have aws_secret_access_key",
        ),
        (
            "Generic S3 error: Error performing PUT http://h/b?partNumber=2&uploadId=u1 in 9ms - Server returned "
            "non-2xx status code: 403 Forbidden: <Error><Code>ExpiredToken</Code><Message>It is old.</Message></Error>",
            "403 Forbidden: ExpiredToken: It is old. (PUT http://h/b)",
        ),
        (
            "Generic S3 error: HTTP error: request or response body error\n\nDebug source:\n...",
            "the connection was cut in the middle of an answer, again and again",
        ),
        ("Something new\nand more", "Something new"),
    ],
)
def test_an_answer_becomes_one_line(dump: str, line: str) -> None:
    """Obstore appends a page of debug output to each error."""
    assert reason(Exception(dump)) == line
