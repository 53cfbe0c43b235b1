"""An S3 server that answers badly, and one that is slow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.chaos.audit import Fault, audit
from tools.chaos.cluster import Cluster
from tools.chaos.figures import Figure, at_most, noted, of_faults
from tools.chaos.http_faults import HttpFaults
from tools.chaos.work import Options, Work, write_work
from tools.servers import S3Server, wait_for

HOSTS, DEVICES = 1, "sim:2:20"
SLOW_BYTES_PER_S = 1_000_000.0
MEMORY_FACTOR = 1.2


@dataclass(slots=True)
class _Bench:
    """A store behind its faults, and the cluster that writes to it."""

    cluster: Cluster
    server: S3Server
    faults: HttpFaults
    work: Work
    options: Options

    def make(self, name: str, spoil: Callable[[HttpFaults], None]) -> tuple[Path, int]:
        """Have fresh workers make a run while the store is spoiled; return a copy of it, and their peak in KiB."""
        self.cluster.add_hosts(HOSTS, DEVICES, self.server.environment(self.faults.port))
        self.cluster.submit(self.work, f"s3://{self.server.bucket}/{name}", self.server.environment())
        spoil(self.faults)
        wait_for(lambda: self.server.has(f"{name}/manifest.json"), self.options.timeout_s, f"the run {name} must end")
        self.faults.share, self.faults.bytes_per_s = 0.0, None
        peak_kib = max(peak_memory_kib(pid) for _, pid in self.cluster.workers())
        self.cluster.remove_hosts()
        return self.server.download(name, self.options.folder / name), peak_kib


def run(options: Options) -> list[Figure]:
    """Make a run in peace, one with ``options.faults`` per cent of requests failing, and one through a slow link."""
    work = write_work(options.folder / "requests.jsonl", options.images, seed=options.seed)
    server = S3Server()
    faults = HttpFaults(server.port, seed=options.seed)
    try:
        with Cluster(options.folder) as cluster:
            return _figures(_Bench(cluster, server, faults, work, options))
    finally:
        faults.close()
        server.stop()


def _figures(bench: _Bench) -> list[Figure]:
    calm, calm_kib = bench.make("calm", lambda faults: None)
    bench.faults.requests = 0
    failing, failing_kib = bench.make("failing", lambda faults: _fail(faults, bench.options.faults / 100))
    share = 100 * bench.faults.met.total() / bench.faults.requests
    slow, slow_kib = bench.make("slow", _slow)
    found: list[Fault] = [*audit(failing, bench.work.wanted, calm=calm), *audit(slow, bench.work.wanted, calm=calm)]
    return [
        noted("requests that met a fault", share, "%"),
        *of_faults([*audit(calm, bench.work.wanted), *found], "lost row", "half-written object"),
        at_most("peak memory of a worker while requests fail", failing_kib / calm_kib, MEMORY_FACTOR, "times the calm"),
        at_most("peak memory of a worker at 1 MB/s", slow_kib / calm_kib, MEMORY_FACTOR, "times the calm"),
    ]


def _fail(faults: HttpFaults, share: float) -> None:
    faults.share = share


def _slow(faults: HttpFaults) -> None:
    faults.bytes_per_s = SLOW_BYTES_PER_S


def peak_memory_kib(pid: int) -> int:
    """Return the most memory that a process ever had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
