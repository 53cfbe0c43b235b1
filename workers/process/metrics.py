"""What a monitor reads of a worker process: its latest report, in Prometheus's text format, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, get_args

from ddim_core.contracts.queue import WorkerReport, WorkerState
from ddim_core.errors import InputError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STATES: tuple[WorkerState, ...] = get_args(WorkerState)


@dataclass(frozen=True, slots=True)
class Metric:
    """One name in the exposition, with a value for each set of labels."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    values: Mapping[tuple[tuple[str, str], ...], float]

    def lines(self, common: tuple[tuple[str, str], ...]) -> Iterator[str]:
        """Yield the metric as text, with the labels that all metrics of a process have."""
        yield f"# HELP {self.name} {self.meaning}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.values.items():
            text = ",".join(f'{label}="{_escaped(content)}"' for label, content in (*common, *labels))
            yield f"{self.name}{{{text}}} {int(value) if value == int(value) else value!r}"


def metrics_of(report: WorkerReport) -> list[Metric]:
    """Return what the report says; times are seconds, counters begin anew when another checkpoint is loaded."""

    def one(name: str, kind: Literal["counter", "gauge"], meaning: str, value: float) -> Metric:
        return Metric(f"ddim_fleet_{name}", kind, meaning, {(): value})

    return [
        Metric(
            "ddim_fleet_worker_info", "gauge", "The worker's name and version; always 1.",
            {(("worker", report.worker_id), ("version", report.version)): 1},
        ),
        Metric(
            "ddim_fleet_worker_state", "gauge", "1 for the state that the worker is in.",
            {(("state", state),): float(state == report.state) for state in STATES},
        ),
        one("chunks_in_hand", "gauge", "Chunks that the worker holds.", len(report.chunks)),
        one("images_total", "counter", "Images made since the process started.", report.images),
        one("images_per_second", "gauge", "Images made per second, over the last half minute.", report.images_per_s),
        one("steps_total", "counter", "Denoising steps, each of a whole batch.", report.steps),
        one("full_steps_total", "counter", "What the steps come to with every slot in use.", report.full_steps),
        one("slot_occupancy", "gauge", "Share of the slots in use in the latest steps.", report.slot_occupancy),
        Metric(
            "ddim_fleet_stage_seconds_total", "counter", "Seconds of the sampling thread by stage.",
            {(("stage", stage),): seconds for stage, seconds in report.seconds.items()},
        ),
        one("graphs_compiled_total", "counter", "Compiled graphs, warm-up included.", report.graphs),
        one(
            "graphs_compiled_since_warm_up_total", "counter", "Graphs that samples waited for; 0 in steady work.",
            report.graphs_since_warm_up,
        ),
        Metric(
            "ddim_fleet_bucket_slots", "gauge", "Images denoised at once: of a size, such as 512x512, or 512x512/2w.",
            {(("size", size),): slots for size, slots in report.slots.items()},
        ),
        one(
            "memory_shortages_total", "counter", "Batches made smaller for want of device memory.",
            report.memory_shortages,
        ),
        one("stores_away", "gauge", "Stores that the worker waits for; 0 while all is well.", len(report.troubles)),
    ]  # fmt: skip


def exposition(report: WorkerReport) -> str:
    """Return the report as Prometheus reads it."""
    common = (("device", report.device),)
    return "".join(f"{line}\n" for metric in metrics_of(report) for line in metric.lines(common))


class MetricsServer:
    """Answers GET /metrics."""

    def __init__(self, host: str, port: int, read: Callable[[], WorkerReport]) -> None:
        """Listen on ``port`` of ``host``, or on a free one for 0.

        Raises:
            InputError: The address cannot be used, for instance because another process does.
        """
        handler = type("MetricsHandler", (_Handler,), {"read": staticmethod(read)})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except (OSError, OverflowError) as exc:
            raise InputError(f"--metrics-port must be a free port of {host}, got {port}: {exc}") from exc
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    read: Callable[[], WorkerReport]
    timeout = 10.0
    """Seconds for a client that says nothing."""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            return self.send_error(404)
        body = exposition(type(self).read()).encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *_: object) -> None:
        """Say nothing: a scrape every few seconds is no news."""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
