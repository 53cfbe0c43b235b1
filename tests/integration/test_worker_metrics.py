"""What workers tell of themselves while they make a run: to a monitor, and to whoever asks for a run's status."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from ddim_core.contracts.request import Request
from producer.commands.status import command
from tests.integration.worker_host import PATIENCE_S, Workers, plan_run, reports, send, wait_for
from tools.servers import RedisServer, free_port


def test_a_monitor_and_a_person_read_what_a_worker_has_done(
    redis_server: RedisServer, tmp_path: Path, start_workers: Callable[..., Workers]
) -> None:
    """The same figures over HTTP, which only this machine reaches, and by ``status --workers``."""
    port = free_port()
    folder = plan_run(
        str(tmp_path / "run"),
        [Request(prompt="a star", num_images_per_prompt=16, num_inference_steps=4)],
        sizes=("32x32", "64x32"),
    )
    start_workers("sim:1:2", "--metrics-port", str(port)).wait_ready(1)
    send(redis_server, folder)
    wait_for(lambda: folder.read_manifest() is not None, PATIENCE_S)
    wait_for(lambda: _scrape(port).get('ddim_fleet_images_total{device="sim:0"}') == 16, PATIENCE_S)
    figures = _scrape(port)
    assert figures['ddim_fleet_worker_state{device="sim:0",state="ready"}'] == 1
    assert figures['ddim_fleet_steps_total{device="sim:0"}'] >= 16
    assert figures['ddim_fleet_graphs_compiled_since_warm_up_total{device="sim:0"}'] == 0
    assert {name: value for name, value in figures.items() if "bucket_slots" in name} == {
        'ddim_fleet_bucket_slots{device="sim:0",size="32x32"}': 4,
        'ddim_fleet_bucket_slots{device="sim:0",size="64x32"}': 4,
    }
    [report] = reports(redis_server)
    assert (report.images, report.slots) == (16, {"32x32": 4, "64x32": 4})
    arguments = [folder.url, "--workers", "--broker", redis_server.url]
    shown = CliRunner().invoke(command, arguments).output
    assert re.search(r"^worker +sim:0 on \S+, pid \d+, ready$", shown, re.MULTILINE), shown
    told = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).output)
    assert (told["images_made"], told["worker_reports"][0]["slots"]) == (16, report.slots)


def test_options_that_cannot_be_used_stop_the_worker_at_once(tmp_path: Path) -> None:
    """With a line that says which, and the exit code of bad input."""
    for option, value, message in (
        ("--sizes", "512", "a size must be WIDTHxHEIGHT in pixels, such as 768x512, got '512'"),
        ("--metrics-port", "65535", "--metrics-port must leave a port to each of 2 devices up to 65535, got 65535"),
    ):
        log = tmp_path / f"{option}.log"
        workers = Workers("redis://127.0.0.1:1/0", "sim:2", log, option, value)
        assert workers.launcher.wait(PATIENCE_S) == 1
        assert f"ddim-fleet worker: {message}" in log.read_text()


def _scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    values = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in values}
