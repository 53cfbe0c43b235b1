"""The servers that workers need, on free ports of the loopback interface, for tests, benchmarks and the chaos rig."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import redis

from producer.embedded import redis_server

START_S = 60.0
_KEY_ID, _SECRET = "chaos", "chaos-secret"


class RedisServer:
    """A redis-server without a disk: stopping it loses all it knew."""

    def __init__(self, folder: Path) -> None:
        """Start it."""
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it empty, and wait until it answers."""
        command = [
            redis_server() or "redis-server",
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)
        wait_for(self._answers, START_S, "redis-server must answer")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        """Return a client that reaches it without the proxy."""
        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


class S3Server:
    """moto, an S3 server in memory; it takes any credentials."""

    def __init__(self) -> None:
        """Start it and make the bucket."""
        import boto3  # here, since it takes a second and most scenarios do without
        from botocore.config import Config

        self.port = free_port()
        self.bucket = "chaos"
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: _listens(self.port), START_S, "the S3 server must answer")
        # Another client than the program's, and past the proxy.
        self._client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=_KEY_ID,
            aws_secret_access_key=_SECRET,
            region_name="us-east-1",
            config=Config(proxies={}),
        )
        self._client.create_bucket(Bucket=self.bucket)

    def stop(self) -> None:
        """End it; what it held is lost."""
        self._client.close()
        self._process.terminate()
        self._process.wait(10)

    def environment(self, port: int | None = None) -> dict[str, str]:
        """Return what a process needs to reach it, through the proxy on ``port`` if there is one."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": _KEY_ID,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def download(self, prefix: str, folder: Path) -> Path:
        """Copy all objects below ``prefix`` into ``folder``."""
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{prefix}/"):
            for item in page.get("Contents", []):
                path = folder / item["Key"].removeprefix(f"{prefix}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._client.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read())
        return folder

    def has(self, key: str) -> bool:
        """Return whether there is such an object."""
        return bool(self._client.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1)["KeyCount"])


def wait_for(condition: Callable[[], object], timeout_s: float, what: str) -> float:
    """Wait until ``condition`` holds; return the seconds that took.

    Raises:
        TimeoutError: It did not, with ``what`` as its reason.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            raise TimeoutError(f"{what} within {timeout_s:.0f} s, and did not")
        time.sleep(0.1)
    return time.monotonic() - began


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def without_aws() -> dict[str, str]:
    """Return this process's environment without settings of another S3 service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
