"""What a monitor reads."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from ddim_core.contracts.queue import WorkerReport
from ddim_core.errors import InputError
from workers.__main__ import metrics_ports
from workers.process.metrics import CONTENT_TYPE, MetricsServer, exposition

REPORT = WorkerReport(
    worker_id='host "a"/npu:0/7',
    host="host",
    pid=7,
    device="npu:0",
    state="ready",
    chunks=("run-1/0", "run-1/1"),
    images=12,
    images_per_s=0.125,
    slot_occupancy=0.9,
    steps=200,
    full_steps=180.5,
    seconds={"denoise": 30.25, "decode": 2.0},
    graphs=6,
    graphs_since_warm_up=1,
    slots={"512x512": 8, "768x512": 4},
    memory_shortages=1,
    troubles=("could not write s3://b/run/x: 503 Slow Down",),
    version="0.1",
)
SAMPLE = re.compile(r'ddim_fleet_[a-z_]+\{([a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+\} [0-9.e+-]+')


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """Give a server on a free port of the loopback."""
    server = MetricsServer("127.0.0.1", 0, lambda: REPORT)
    server.start()
    yield server
    server.stop()


def test_every_figure_of_the_report_is_there() -> None:
    """By the names that docs/operations.md gives, with the device as a label."""
    lines = exposition(REPORT).splitlines()
    for line in (
        'ddim_fleet_worker_info{device="npu:0",worker="host \\"a\\"/npu:0/7",version="0.1"} 1',
        'ddim_fleet_worker_state{device="npu:0",state="ready"} 1',
        'ddim_fleet_worker_state{device="npu:0",state="compiling"} 0',
        'ddim_fleet_worker_state{device="npu:0",state="draining"} 0',
        'ddim_fleet_chunks_in_hand{device="npu:0"} 2',
        'ddim_fleet_stores_away{device="npu:0"} 1',
        'ddim_fleet_images_total{device="npu:0"} 12',
        'ddim_fleet_images_per_second{device="npu:0"} 0.125',
        'ddim_fleet_steps_total{device="npu:0"} 200',
        'ddim_fleet_full_steps_total{device="npu:0"} 180.5',
        'ddim_fleet_slot_occupancy{device="npu:0"} 0.9',
        'ddim_fleet_stage_seconds_total{device="npu:0",stage="denoise"} 30.25',
        'ddim_fleet_graphs_compiled_total{device="npu:0"} 6',
        'ddim_fleet_graphs_compiled_since_warm_up_total{device="npu:0"} 1',
        'ddim_fleet_bucket_slots{device="npu:0",size="768x512"} 4',
        'ddim_fleet_memory_shortages_total{device="npu:0"} 1',
    ):
        assert line in lines


def test_the_text_is_of_the_form_that_prometheus_reads() -> None:
    """Each name has its help and type before its values, and every value is one line."""
    described: set[str] = set()
    for line in exposition(REPORT).splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert kind == ("counter" if name.endswith("_total") else "gauge")
            described.add(name)
        elif not line.startswith("# HELP "):
            assert SAMPLE.fullmatch(line), line
            assert line.partition("{")[0] in described


def test_large_figures_keep_all_their_digits() -> None:
    """A counter that is rounded stands still, and its rate is nought."""
    text = exposition(REPORT.model_copy(update={"steps": 123456789, "full_steps": 123456789.125}))
    assert 'ddim_fleet_steps_total{device="npu:0"} 123456789\n' in text
    assert 'ddim_fleet_full_steps_total{device="npu:0"} 123456789.125\n' in text


def test_figures_are_served_at_one_path(server: MetricsServer) -> None:
    """And nothing is served at any other."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        assert answer.read().decode() == exposition(REPORT)
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=10)
    refused.value.close()


def test_a_port_in_use_is_refused(server: MetricsServer) -> None:
    """In a line that names the option."""
    with pytest.raises(InputError, match=rf"--metrics-port must be a free port of 127\.0\.0\.1, got {server.port}"):
        MetricsServer("127.0.0.1", server.port, lambda: REPORT)


def test_each_process_has_a_port_of_its_own() -> None:
    """A host with eight devices takes eight ports, and none that there is not."""
    assert metrics_ports(9500, 3) == [9500, 9501, 9502]
    assert metrics_ports(None, 2) == [None, None]
    with pytest.raises(InputError, match="must leave a port to each of 2 devices up to 65535, got 65535"):
        metrics_ports(65535, 2)
