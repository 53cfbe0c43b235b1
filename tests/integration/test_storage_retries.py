"""Requests that meet a fault on their way to a real S3 server are made again, and none is ever half done."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

import pytest

from ddim_core.errors import StorageError
from ddim_core.storage.objects import ObjectStore
from tools.chaos.http_faults import HttpFaults
from tools.s3_servers import S3Server

PATH = "shards/00000.tar"
SHARD = bytes(range(256)) * (48 << 10)
"""12 MiB: goes up in three parts."""


class Scripted(HttpFaults):
    """Gives faults to the requests that a test names by method and query, as often as it says."""

    def __init__(self, upstream_port: int) -> None:
        self.script: deque[tuple[str, str]] = deque()
        self.seen: list[str] = []
        super().__init__(upstream_port, seed=0)

    def _fault(self, head: bytes) -> str | None:
        line = head.split(b"\r\n", 1)[0].decode()
        self.seen.append(line)
        if self.script and re.search(self.script[0][0], line):
            return self.script.popleft()[1]
        return None


@pytest.fixture(params=["s3", "swift"])
def bucket(request: pytest.FixtureRequest) -> tuple[S3Server, str]:
    """Give a server of each kind, and the name of a bucket there."""
    url = str(request.getfixturevalue(f"{request.param}_url"))
    server = request.getfixturevalue({"s3": "moto_server", "swift": "swift_server"}[request.param])
    return server, url.removeprefix("s3://")


@pytest.fixture
def faults(bucket: tuple[S3Server, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """Give a proxy before it, by which the environment leads."""
    proxy = Scripted(bucket[0].port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    yield proxy
    proxy.close()


@pytest.fixture
def store(bucket: tuple[S3Server, str], faults: Scripted) -> ObjectStore:
    """Give a store behind the proxy."""
    assert faults.port
    return ObjectStore(f"s3://{bucket[1]}/run")


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut before", "cut within", "cut after"])
def test_a_small_object_gets_through(store: ObjectStore, faults: Scripted, fault: str) -> None:
    """Written and read; where only the answer was lost, the same bytes are written again."""
    faults.script += [("PUT", fault)] * 2 + [("GET", fault)] * 2
    store.put("parts/0.parquet", b"part" * 100)
    assert store.get("parts/0.parquet") == b"part" * 100
    assert not faults.script


def test_an_answer_that_is_cut_is_gone_on_with(store: ObjectStore, faults: Scripted) -> None:
    """Whole in memory, and in pieces; what came is not asked for again."""
    store.put(PATH, SHARD)
    faults.seen.clear()
    faults.script += [("GET", "cut within")] * 2
    assert store.get(PATH) == SHARD
    faults.script += [("GET", "cut within")] * 2
    assert b"".join(store.pieces(PATH)) == SHARD
    assert len(faults.seen) == 6 and not faults.script


def test_an_answer_that_stays_cut_is_an_error_and_no_short_object(store: ObjectStore, faults: Scripted) -> None:
    """The tries are few, and the line says what happened."""
    store.put(PATH, SHARD)
    faults.script += [("GET", "cut within")] * 100
    with pytest.raises(StorageError, match=f"could not read .*/{PATH}: the connection was cut in the middle"):
        store.get(PATH)
    assert len(faults.script) >= 60


def test_a_cut_answer_that_there_is_nothing_or_of_what_there_is_is_asked_for_again(
    store: ObjectStore, faults: Scripted
) -> None:
    """The text of an error, and a list; obstore gives up at the first cut of either."""
    for name in ("a", "b", "c"):
        store.put(f"parts/{name}", b"x")
    faults.script += [("GET", "cut within")] * 2
    with pytest.raises(FileNotFoundError):
        store.get("missing")
    faults.script += [("GET", "cut within")] * 2
    assert list(store.list("parts")) == [("parts/a", 1), ("parts/b", 1), ("parts/c", 1)]
    assert not faults.script


def test_parts_of_an_upload_are_sent_again(store: ObjectStore, faults: Scripted) -> None:
    """Each has its own tries, and so do its beginning and its end."""
    faults.script += [("POST", "503"), ("partNumber", "cut before"), ("partNumber", "500"), ("partNumber", "cut after")]
    faults.script += [("POST", "500")]
    store.put(PATH, SHARD)
    assert not faults.script and store.get(PATH) == SHARD


@pytest.mark.parametrize("where", ["partNumber", "POST .*uploadId"])
def test_an_upload_that_fails_in_the_middle_leaves_nothing(
    bucket: tuple[S3Server, str], store: ObjectStore, faults: Scripted, where: str
) -> None:
    """No object, and no parts that are paid for and that nobody sees."""
    faults.script += [(where, "403")]
    with pytest.raises(StorageError, match="403 Forbidden: ExpiredToken: The provided token has expired"):
        store.put(PATH, SHARD)
    server, name = bucket
    assert not store.exists(PATH) and list(store.list("")) == []
    assert server.unfinished_uploads(name) == []


def test_a_lost_answer_to_the_end_of_an_upload_leaves_the_object_whole(store: ObjectStore, faults: Scripted) -> None:
    """The server has put the parts together; that it knows the upload no more is no failure for good."""
    faults.script += [("POST .*uploadId", "cut after")]
    for _ in range(2):  # a worker writes again what it was told had failed
        try:
            store.put(PATH, SHARD)
            break
        except StorageError:
            continue
    assert store.get(PATH) == SHARD
