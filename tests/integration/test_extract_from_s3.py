"""Images out of a bucket: one costs little more than itself, all of them come once, however often one begins."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ddim_core.contracts.request import Request
from ddim_core.storage.bucket import Bucket
from ddim_core.storage.objects import ObjectStore
from producer.images.extract import extract
from producer.images.reader import RunReader
from producer.images.target import Wish
from tests.integration.finished_run import finished_run

REQUESTS = [
    Request(prompt=f"a star {number}", custom_id=f"s{number}", height=256, width=256, num_images_per_prompt=4)
    for number in range(4)
]


class Meter:
    """Counts what a bucket sends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand between the program and its buckets."""
        self.bytes_read = 0
        get_range, pieces, get = Bucket.get_range, Bucket.pieces, Bucket.get

        def counted(data: bytes) -> bytes:
            self.bytes_read += len(data)
            return data

        monkeypatch.setattr(Bucket, "get_range", lambda *args: counted(get_range(*args)))
        monkeypatch.setattr(Bucket, "pieces", lambda *args: map(counted, pieces(*args)))
        monkeypatch.setattr(Bucket, "get", lambda *args: counted(get(*args)))


@pytest.mark.parametrize("server", ["s3_url", "swift_url"])
def test_images_come_out_of_a_bucket(
    server: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named ones, all others after that, and none a second time."""
    url = f"{request.getfixturevalue(server)}/runs/1"
    folder = finished_run(url, REQUESTS)
    meter = Meter(monkeypatch)
    assert extract(folder, tmp_path, Wish(["s2"])).written == 4
    extraction = extract(folder, tmp_path)
    assert (extraction.written, extraction.there, extraction.fault_count) == (12, 4, 0)
    meter.bytes_read = 0
    assert extract(folder, tmp_path).there == 16
    parts = sum(size for _, size in folder.store.list("parts"))
    assert meter.bytes_read <= parts
    rows = {row.key: row for row in folder.records()}
    for record, image in RunReader(folder).images():
        assert image.size == (256, 256)
        assert rows.pop(record.key) == record
    assert rows == {}


def test_one_image_of_a_large_shard_is_fetched_alone(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a shard of 100 images of 300 kB: less than two of them."""
    random = np.random.default_rng(3)

    def noise(spec: object) -> np.ndarray:
        return random.integers(0, 256, (320, 320, 3), np.uint8)

    monkeypatch.setattr("tests.integration.finished_run.draw", noise)
    monkeypatch.setattr("tests.integration.finished_run.IMAGES_PER_CHUNK", 100)
    folder = finished_run(f"{s3_url}/runs/2", [Request(prompt="x", custom_id="x", num_images_per_prompt=100)])
    meter = Meter(monkeypatch)
    extract(folder, tmp_path, Wish(["000000061"], by="key"))
    assert (folder.store.size_bytes("shards/00000.tar") or 0) > 30_000_000
    assert meter.bytes_read < 600_000


@pytest.fixture
def rangeless(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service that sends the whole object whatever is asked for."""

    class Whole(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in (("Content-Length", "1000"), ("ETag", '"x"')):
                self.send_header(name, value)
            self.send_header("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
            self.end_headers()
            self.wfile.write(bytes(range(250)) * 4)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Whole)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}"),
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
    ):
        monkeypatch.setenv(name, value)
    yield "s3://bucket/prefix"
    server.shutdown()
    server.server_close()


def test_a_service_without_ranges_sends_all_and_is_read_right(rangeless: str) -> None:
    """Slower, and the same bytes."""
    store = ObjectStore(rangeless)
    assert store.get_range("x", 245, 10) == bytes([245, 246, 247, 248, 249, 0, 1, 2, 3, 4])
    assert store.get_range("x", 995, 10) == bytes([245, 246, 247, 248, 249])


@pytest.mark.parametrize("kind", ["folder", "s3_url", "swift_url"])
def test_a_range_ends_where_its_object_does(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Within it, across its end, and behind it; nothing is there where no object is."""
    store = ObjectStore(str(tmp_path) if kind == "folder" else request.getfixturevalue(kind))
    store.put("a", bytes(range(100)))
    found = [store.get_range("a", start, size) for start, size in ((0, 3), (90, 20), (100, 5), (500, 1), (4, 0))]
    assert found == [b"\0\1\2", bytes(range(90, 100)), b"", b"", b""]
    with pytest.raises(FileNotFoundError, match=r"/b$"):
        store.get_range("b", 0, 3)
