"""S3 servers on the loopback interface: moto, a mock, and a real OpenStack Swift from Debian's packages."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.servers import free_port

SWIFT_PROGRAMS = ("swift-proxy-server", "swift-account-server", "swift-container-server", "swift-object-server")
SWIFT_PACKAGES = "swift-proxy swift-account swift-container swift-object memcached"
START_TIMEOUT_S = 120  # five seconds on an idle machine


@dataclass(frozen=True)
class S3Server:
    """Where an S3 service answers and who may enter."""

    endpoint: str
    key_id: str
    secret: str


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """A running moto server; it takes any credentials."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    with _process([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]) as process:
        _wait_until_it_answers(endpoint, process)
        yield S3Server(endpoint, "moto", "moto-secret")


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running Swift with one replica on a folder; it checks signatures, and knows no conditional puts."""
    missing = [name for name in (*SWIFT_PROGRAMS, "memcached") if shutil.which(name) is None]
    if missing:
        (pytest.fail if os.environ.get("DDIM_FLEET_TEST_ALL") else pytest.skip)(
            f"{', '.join(missing)} missing: install {SWIFT_PACKAGES}"
        )
    root = tmp_path_factory.mktemp("swift")
    ports = {name: free_port() for name in ("proxy", "account", "container", "object", "memcached")}
    _configure_swift(root, ports)
    with ExitStack() as stack:
        user = pwd.getpwuid(os.getuid()).pw_name
        stack.enter_context(_process(["memcached", "-l", "127.0.0.1", "-p", str(ports["memcached"]), "-u", user]))
        for name in ("account", "container", "object", "proxy"):  # a proxy that answers does not wait for the others
            server = stack.enter_context(_process([f"swift-{name}-server", str(root / f"{name}.conf")]))
            _wait_until_it_answers(f"http://127.0.0.1:{ports[name]}/info", server)
        endpoint = f"http://127.0.0.1:{ports['proxy']}"
        yield S3Server(endpoint, "test:tester", "testing")


@pytest.fixture
def s3_server(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Moto, with the environment set for it."""
    point_environment_at(moto_server, monkeypatch)
    return moto_server


@pytest.fixture
def s3_url(s3_server: S3Server) -> str:
    """The URL of a new bucket at moto, with the environment set for it."""
    bucket = f"fleet-{uuid.uuid4().hex[:12]}"
    _request("PUT", f"{s3_server.endpoint}/{bucket}")
    return f"s3://{bucket}"


@pytest.fixture
def swift_url(swift_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket at Swift, with the environment set for it."""
    point_environment_at(swift_server, monkeypatch)
    bucket = f"fleet-{uuid.uuid4().hex[:12]}"
    login = {"X-Storage-User": swift_server.key_id, "X-Storage-Pass": swift_server.secret}
    answer = _request("GET", f"{swift_server.endpoint}/auth/v1.0", login)
    _request("PUT", f"{answer['X-Storage-Url']}/{bucket}", {"X-Auth-Token": answer["X-Auth-Token"]})
    return f"s3://{bucket}"


def point_environment_at(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that an S3 store reads, and take away all others of that family."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            _request("GET", url)
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{url} did not answer within {START_TIMEOUT_S} s; the server's exit status is {process.poll()}")


def _request(method: str, url: str, headers: dict[str, str] | None = None) -> dict[str, str]:
    """Return the headers of the answer; proxies are passed by."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, method=method, headers=headers or {})
    with opener.open(request, timeout=10) as answer:
        return dict(answer.headers.items())


def _configure_swift(root: Path, ports: dict[str, int]) -> None:
    """Write the rings and configurations of one proxy and three storage servers, one replica, no background daemons."""
    (root / "srv" / "disk").mkdir(parents=True)
    (root / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_prefix = ddim\nswift_hash_path_suffix = fleet\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    for name in ("account", "container", "object"):
        (root / f"{name}.conf").write_text(
            _common(root, ports[name])
            + f"devices = {root}/srv\nmount_check = false\n"
            + f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
        )
    # One process for all rings, with the interpreter that Debian's Swift is installed for.
    subprocess.run(["/usr/bin/python3", "-c", _RINGS, str(root), *(f"{n}={p}" for n, p in ports.items())], check=True)
    (root / "proxy.conf").write_text(_common(root, ports["proxy"]) + _PROXY.format(memcached=ports["memcached"]))


def _common(root: Path, port: int) -> str:
    user = pwd.getpwuid(os.getuid()).pw_name
    return f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\nuser = {user}\nswift_dir = {root}\n"


_RINGS = """
import sys
from swift.common.ring import RingBuilder

for name, port in (argument.split("=") for argument in sys.argv[2:]):
    if name in ("account", "container", "object"):
        builder = RingBuilder(0, 1, 0)
        address = {"ip": "127.0.0.1", "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)}
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": "disk", **address})
        builder.rebalance()
        builder.get_ring().save(f"{sys.argv[1]}/{name}.ring.gz")
"""
_PROXY = """\
[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
"""
