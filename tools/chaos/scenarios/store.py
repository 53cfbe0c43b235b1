"""S3 servers that answer badly, that are slow, that are away, and that take the credentials no more."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.chaos.audit import Fault, audit
from tools.chaos.cluster import Cluster
from tools.chaos.figures import Figure, at_most, exactly, noted, of_faults
from tools.chaos.http_faults import AWAY, EXPIRED, HttpFaults
from tools.chaos.work import Options, Work
from tools.s3_servers import S3Server, missing_for_swift, start_moto, start_swift
from tools.servers import wait_for

HOSTS, DEVICES = 1, "sim:2:20"
BUCKET = "chaos"
IMAGES_PER_CHUNK = 32
"""Of 256 pixels of noise: shards of 6.3 MB, which go up in parts."""
SLOW_BYTES_PER_S = 1_000_000.0
MEMORY_FACTOR = 1.2
REPORT_S = 6.0
"""What a worker has done is in its report by then."""
_NAMED = {AWAY: "cannot be reached", EXPIRED: "ExpiredToken"}
"""What the line must hold in which workers say what they wait for."""


@dataclass(slots=True)
class _Bench:
    """A store behind its faults, and the cluster that writes to it."""

    cluster: Cluster
    server: S3Server
    faults: HttpFaults
    work: Work
    options: Options
    named: int = 0
    """Failures of the whole store that the workers had a line for."""

    def make(self, name: str, spoil: Callable[[str], None]) -> tuple[Path, int, int]:
        """Have fresh workers make a run while the store is spoiled.

        Returns:
            A copy of the run, the workers' peak memory in KiB, and how many images they made.
        """
        began = time.monotonic()
        self.cluster.add_hosts(HOSTS, DEVICES, self.server.through(self.faults.port))
        self.cluster.submit(self.work, f"s3://{BUCKET}/{name}", self.server.access.environment())
        spoil(name)
        self._wait_for(f"{name}/manifest.json")
        self.faults.share, self.faults.bytes_per_s = 0.0, None
        peak_kib = max(peak_memory_kib(pid) for _, pid in self.cluster.workers())
        time.sleep(REPORT_S)
        made = sum(int(report["images"]) for report in self._reports())
        self.cluster.remove_hosts()
        copy = self.server.download(BUCKET, name, self.options.folder / name)
        self.server.delete(BUCKET, name)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        return copy, peak_kib, made

    def fail_all(self, name: str) -> None:
        """Have the store be away when a quarter of the run is done, and credentials expire when three quarters are."""
        chunks = self.options.images // IMAGES_PER_CHUNK
        for share, fault, seconds in ((0.25, AWAY, 4.0), (0.75, EXPIRED, 2.0)):
            self._wait_for(f"{name}/parts/{int(share * chunks):05d}.parquet")
            self.faults.always = fault
            time.sleep(seconds * self.options.pause_s)
            self.named += any(_NAMED[fault] in line for report in self._reports() for line in report["troubles"])
            self.faults.always = None

    def _wait_for(self, key: str) -> None:
        wait_for(lambda: self.server.has(BUCKET, key), self.options.timeout_s, f"{key} must be there")

    def _reports(self) -> list[dict[str, object]]:
        with self.cluster.redis.client() as client:
            found = [client.get(key) for key in client.scan_iter("ddim-fleet:worker:*")]
        return [json.loads(str(one)) for one in found if one]


def run(options: Options) -> list[Figure]:
    """Make runs on moto, and on Swift where it is installed.

    One in peace, one with ``options.faults`` per cent of requests failing, one through a slow link, and one whose store
    is away for four times ``options.pause_s`` and refuses the credentials for twice as long.
    """
    work = _noisy_work(options.folder / "requests.jsonl", options.images)
    figures = _on("moto", start_moto(), work, options)
    if missing_for_swift():
        return [*figures, noted("runs on Swift, which is not installed", 0, "")]
    swift = start_swift(options.folder / "swift-server")
    return [*figures, *_on("swift", swift, work, options)]


def _on(kind: str, server: S3Server, work: Work, options: Options) -> list[Figure]:
    faults = HttpFaults(server.port, seed=options.seed)
    try:
        server.make_bucket(BUCKET)
        with Cluster(options.folder / kind) as cluster:
            figures = _figures(_Bench(cluster, server, faults, work, options), kind)
            return [Figure(f"{kind}: {one.name}", one.value, one.target, one.met) for one in figures]
    finally:
        faults.close()
        server.stop()


def _figures(bench: _Bench, kind: str) -> list[Figure]:
    calm, calm_kib, _ = bench.make(f"{kind}-calm", lambda _: None)
    bench.faults.requests = 0
    failing, failing_kib, _ = bench.make(f"{kind}-failing", lambda _: _fail(bench.faults, bench.options.faults / 100))
    share = 100 * bench.faults.met.total() / bench.faults.requests
    slow, slow_kib, _ = bench.make(f"{kind}-slow", lambda _: _slow(bench.faults))
    away, away_kib, made = bench.make(f"{kind}-away", bench.fail_all)
    found: list[Fault] = audit(calm, bench.work.wanted)
    for spoiled in (failing, slow, away):
        found += audit(spoiled, bench.work.wanted, calm=calm)
    memory = {"requests fail": failing_kib, "the link has 1 MB/s": slow_kib, "the store is away": away_kib}
    return [
        noted("requests that met a fault", share, "%"),
        noted("size of the largest shard", max(map(_size_mb, calm.glob("shards/*"))), "MB"),
        *of_faults(found, "lost row", "half-written object"),
        noted("uploads in parts that were left unfinished", len(bench.server.unfinished_uploads(BUCKET)), ""),
        exactly("failures of the whole store that workers named", bench.named, 2),
        exactly("images made in vain while it was away", made - bench.options.images, 0),
        *(at_most(f"peak memory while {when}", kib / calm_kib, MEMORY_FACTOR, "times the calm")
          for when, kib in memory.items()),
    ]  # fmt: skip


def _noisy_work(path: Path, images: int) -> Work:
    names = [f"r{number:06d}" for number in range(images)]
    wanted = {(name, 0): f"sim:noise {name}" for name in names}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"custom_id": one, "prompt": f"sim:noise {one}"}) + "\n" for one in names))
    options = ["--height", "256", "--width", "256", "--num-inference-steps", "20"]
    return Work(path, wanted, [*options, "--images-per-chunk", str(IMAGES_PER_CHUNK)])


def _fail(faults: HttpFaults, share: float) -> None:
    faults.share = share


def _slow(faults: HttpFaults) -> None:
    faults.bytes_per_s = SLOW_BYTES_PER_S


def _size_mb(path: Path) -> float:
    return path.stat().st_size / 1e6


def peak_memory_kib(pid: int) -> int:
    """Return the most memory that a process ever had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
