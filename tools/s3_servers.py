"""S3 servers on the loopback interface: moto, a mock, and a real OpenStack Swift, which knows no conditional puts."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tools.servers import free_port, wait_for

SWIFT_PACKAGES = "swift-proxy swift-account swift-container swift-object memcached"
START_S = 120.0
"""Five seconds on an idle machine."""
_SERVICES = ("account", "container", "object", "proxy")
_PROGRAMS = (*(f"swift-{name}-server" for name in _SERVICES), "memcached")


@dataclass(frozen=True, slots=True)
class S3Access:
    """Where an S3 service answers and who may enter."""

    endpoint: str
    key_id: str
    secret: str

    def environment(self) -> dict[str, str]:
        """Return the variables that a process needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1,localhost",
        }


class S3Server:
    """A server that runs, and another client of it than the program's."""

    def __init__(self, port: int, key_id: str, secret: str) -> None:
        """Take the server's processes by ``run``."""
        self.port = port
        self.access = S3Access(f"http://127.0.0.1:{port}", key_id, secret)
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, command: Sequence[str], port: int) -> None:
        """Start one process of the server, and wait until it answers by HTTP or, being none of that kind, at all."""
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
        self._processes.append(process)
        wait_for(lambda: process.poll() is not None or _answers(port), START_S, f"{command[0]} must answer")
        if process.poll() is not None:
            raise RuntimeError(f"{command[0]} must stay up, and ended with {process.poll()}")

    def stop(self) -> None:
        """End it, the last process first."""
        if "_client" in self.__dict__:
            self._client.close()
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def through(self, port: int) -> dict[str, str]:
        """Return the variables of a process that reaches it through a proxy on ``port``."""
        return {**self.access.environment(), "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}

    def make_bucket(self, bucket: str) -> None:
        """Make a bucket."""
        self._client.create_bucket(Bucket=bucket)

    def has(self, bucket: str, key: str) -> bool:
        """Return whether there is such an object, or one whose key begins so."""
        return bool(self._client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents"))

    def download(self, bucket: str, prefix: str, folder: Path) -> Path:
        """Copy all objects below ``prefix`` into ``folder``."""
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
            for item in page.get("Contents", []):
                path = folder / item["Key"].removeprefix(f"{prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())
        return folder

    def delete(self, bucket: str, prefix: str) -> None:
        """Delete all objects below ``prefix``."""
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
            for item in page.get("Contents", []):
                self._client.delete_object(Bucket=bucket, Key=item["Key"])

    def unfinished_uploads(self, bucket: str) -> list[str]:
        """Return the keys of uploads in parts that were neither completed nor aborted."""
        return [str(upload["Key"]) for upload in self._client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

    @cached_property
    def _client(self) -> Any:
        import boto3  # here, since it takes a second and most do without
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.access.endpoint,
            aws_access_key_id=self.access.key_id,
            aws_secret_access_key=self.access.secret,
            region_name="us-east-1",
            config=Config(
                proxies={},
                s3={"addressing_style": "path"},
                # Swift takes a body as it is; newer clients would wrap it in checksums of their own.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )


def start_moto() -> S3Server:
    """Return a running moto, in memory; it takes any credentials."""
    server = S3Server(free_port(), "moto", "moto-secret")
    server.run([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(server.port)], server.port)
    return server


def missing_for_swift() -> list[str]:
    """Return the programs that Swift needs and that are not on the PATH."""
    return [name for name in _PROGRAMS if shutil.which(name) is None]


def start_swift(root: Path) -> S3Server:
    """Return a running Swift with one replica below ``root``; it checks signatures."""
    ports = {name: free_port() for name in (*_SERVICES, "memcached")}
    _configure(root, ports)
    server = S3Server(ports["proxy"], "test:tester", "testing")
    try:
        server.run(["memcached", "-l", "127.0.0.1", "-p", str(ports["memcached"]), "-u", _user()], ports["memcached"])
        for name in _SERVICES:  # a proxy that answers does not wait for the others
            server.run([f"swift-{name}-server", str(root / f"{name}.conf")], ports[name])
    except (TimeoutError, RuntimeError):
        server.stop()
        raise
    return server


def _answers(port: int) -> bool:
    """Return whether something on the port answers a request, in whatever way; proxies are passed by."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/info", timeout=10):
            return True
    except urllib.error.HTTPError as exc:
        exc.close()
        return True
    except HTTPException:  # it talks, if not by HTTP
        return True
    except OSError:
        return False


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _configure(root: Path, ports: dict[str, int]) -> None:
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
    return f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\nuser = {_user()}\nswift_dir = {root}\n"


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
