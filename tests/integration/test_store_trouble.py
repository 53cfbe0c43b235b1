"""A store that refuses what it is given: the run waits, says why in one line, and goes on by itself."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ddim_core.contracts.request import Request
from ddim_core.errors import StorageError
from ddim_core.storage.objects import ObjectStore
from ddim_core.storage.run_folder import RunFolder
from tests.integration.fleet_command import FleetCommand
from tests.integration.worker_host import PATIENCE_S, Workers, plan_run, reports, send, wait_for
from tools.chaos.http_faults import AWAY, EXPIRED, HttpFaults
from tools.s3_servers import S3Server
from tools.servers import RedisServer

StartWorkers = Callable[..., Workers]

DISK_BYTES = 8 << 20
REQUESTS = [Request(prompt=f"sim:noise {n}", height=128, width=128, num_inference_steps=2) for n in range(48)]
"""48 kB each; a shard of eight is 400 kB."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of its own, small enough to be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "ddim-fleet-test", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, *, but_bytes: int = 0) -> Path:
    """Fill the disk with a file, up to so many bytes; return it."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - but_bytes)
    return ballast


def troubles(server: RedisServer) -> list[str]:
    """Return what the workers say that they wait for."""
    return [line for report in reports(server) for line in report.troubles]


def images_made(server: RedisServer) -> int:
    """Return how many images the workers have made, some perhaps again."""
    return sum(report.images for report in reports(server))


def assert_whole(fleet: FleetCommand, server: RedisServer, folder: RunFolder, workers: Workers) -> None:
    """Wait for the end, and see that no image was made in vain, lost, or half-written."""
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S, workers.text)
    assert fleet("verify", folder.url).returncode == 0
    assert len(list(folder.records())) == len(REQUESTS)
    assert workers.text().count("action=chunk_committed") == folder.read_plan().chunk_count
    wait_for(lambda: not troubles(server) and images_made(server) >= len(REQUESTS), PATIENCE_S, workers.text)
    assert images_made(server) == len(REQUESTS)


def test_a_run_on_a_full_disk_waits_for_room_and_goes_on(
    redis_server: RedisServer, fleet_with_broker: FleetCommand, disk: Path, start_workers: StartWorkers
) -> None:
    """Nothing is half-written, nothing left over, and nothing made in vain; whoever looks reads why it waits."""
    folder = plan_run(str(disk / "run"), REQUESTS)
    ballast = fill(disk, but_bytes=1 << 20)
    send(redis_server, folder)
    workers = start_workers("sim:1:2")
    wait_for(lambda: troubles(redis_server), PATIENCE_S, workers.text)
    done = folder.committed_chunks()
    assert 0 < len(done) < 6
    line = f"trouble    worker sim:0 on .*: could not write {folder.url}/.*: No space left on device; waiting\n"
    shown = fleet_with_broker("status", folder.url).stdout
    assert re.search(line, shown), shown
    assert "trouble " in fleet_with_broker("status", folder.url, "--workers").stdout
    assert [path.name for path in disk.rglob("*#*")] == []
    ballast.unlink()
    assert_whole(fleet_with_broker, redis_server, folder, workers)
    assert [path.name for path in disk.rglob("*#*")] == []


@pytest.mark.parametrize("room_bytes", [0, 16 << 10])
def test_a_run_is_not_submitted_into_a_full_disk(fleet_with_broker: FleetCommand, disk: Path, room_bytes: int) -> None:
    """Whether the probe finds out or a chunk does: one line, and no run; with room the same command does it."""
    ballast = fill(disk, but_bytes=room_bytes)
    fleet_with_broker.write("p.txt", "".join(f"a very long prompt about leaf {n} {'x' * 500}\n" for n in range(100)))
    submit = ("submit", "p.txt", "--out", str(disk / "run"), "--long-prompts", "cut")
    done = fleet_with_broker(*submit)
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1
    assert done.stderr.startswith("ddim-fleet: error: ") and "No space left on device" in done.stderr
    assert not RunFolder(str(disk / "run")).has_plan()
    assert "there is none at" in fleet_with_broker("status", str(disk / "run")).stderr
    ballast.unlink()
    assert fleet_with_broker(*submit).returncode == 0
    assert RunFolder(str(disk / "run")).has_plan()


@pytest.mark.parametrize(("fault", "reason"), [(EXPIRED, "403 Forbidden: ExpiredToken"), (AWAY, "cannot be reached")])
def test_a_bucket_that_refuses_everything_for_a_while_costs_time_alone(  # noqa: PLR0917 - fixtures
    fault: str,
    reason: str,
    redis_server: RedisServer,
    fleet_with_broker: FleetCommand,
    s3_server: S3Server,
    s3_url: str,
    start_workers: StartWorkers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Credentials that expired, or a service that is away; neither secret is in what is said of it."""
    faults = HttpFaults(s3_server.port, seed=1)
    try:
        folder = plan_run(f"{s3_url}/run", REQUESTS)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{faults.port}")
        workers = start_workers("sim:1:40")
        workers.wait_ready(1)
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.access.endpoint)
        send(redis_server, folder)
        wait_for(folder.committed_chunks, PATIENCE_S, workers.text)
        faults.always = fault
        wait_for(lambda: any(reason in line for line in troubles(redis_server)), PATIENCE_S, workers.text)
        shown = fleet_with_broker("status", folder.url).stdout
        assert reason in shown and "; waiting" in shown
        assert s3_server.access.secret not in workers.text() + shown
        faults.always = None
        assert_whole(fleet_with_broker, redis_server, folder, workers)
    finally:
        faults.close()


def test_credentials_that_are_rotated_are_taken_up_by_a_worker_that_runs(
    redis_server: RedisServer,
    fleet_with_broker: FleetCommand,
    swift_server: S3Server,
    swift_url: str,
    start_workers: StartWorkers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From their file, with Swift, which checks signatures."""
    file = fleet_with_broker.write("credentials", credentials(swift_server.access.key_id, "revoked-secret"))
    folder = plan_run(f"{swift_url}/run", REQUESTS)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with pytest.raises(StorageError, match="403 Forbidden: SignatureDoesNotMatch"):
        ObjectStore(folder.url).check_writable()
    send(redis_server, folder)
    workers = start_workers("sim:1:2")
    wait_for(lambda: any("SignatureDoesNotMatch" in line for line in troubles(redis_server)), PATIENCE_S, workers.text)
    assert "revoked-secret" not in workers.text()
    file.write_text(credentials(swift_server.access.key_id, swift_server.access.secret))
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S, workers.text)
    assert fleet_with_broker("verify", folder.url).returncode == 0


def credentials(key_id: str, secret: str) -> str:
    """Return a file of the AWS tools."""
    return f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
