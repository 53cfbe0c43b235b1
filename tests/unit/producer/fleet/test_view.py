"""What a person reads of the workers."""

from __future__ import annotations

from ddim_core.contracts.hosts import Cordon, DeviceReport, HostReport
from ddim_core.contracts.queue import WorkerReport
from producer.fleet.view import FleetView, workers_table


def report(device: str, **fields: object) -> WorkerReport:
    """Return the report of a worker that is ready."""
    return WorkerReport.model_validate({
        "worker_id": f"b/{device}/7", "host": "b", "pid": 7, "device": device, "state": "ready", **fields,
    })  # fmt: skip


def test_each_worker_has_a_block_with_what_it_does() -> None:
    """In the order of hosts and devices, with the stages that cost most first and what happens once left out."""
    busy = report(
        "npu:1",
        chunks=("run-1/4",),
        images=12,
        images_per_s=0.77,
        slot_occupancy=0.94,
        seconds={"load": 500.0, "warm_up": 500.0, "decode": 20.0, "denoise": 80.0},
        graphs=6,
        graphs_since_warm_up=1,
        kernels="fused-1",
        slots={"512x512": 8, "768x512": 4},
        memory_shortages=1,
        troubles=("could not write s3://b/run/x: 503 Slow Down",),
        limits={"max_side_px": 1024, "max_num_inference_steps": 100},
    )
    idle, worker = workers_table([busy, report("npu:0")]).split("\n\n")
    assert worker.splitlines() == [
        "worker       npu:1 on b, pid 7, ready",
        "chunks       run-1/4",
        "images       12, 0.77 images/s lately",
        "slots        94% in use, 8 of 512x512, 4 of 768x512",
        "graphs       6 compiled, 1 of them since the warm-up",
        "time         denoise 80%, decode 20%",
        "kernels      fused-1",
        "limits       max_side_px=1024, max_num_inference_steps=100",
        "memory       batches halved for want of it: 1",
        "trouble      could not write s3://b/run/x: 503 Slow Down; waiting",
    ]
    assert idle.splitlines()[1] == "chunks       none in hand"
    assert idle.splitlines()[-1] == "time         -"


def test_no_worker_is_said_in_words() -> None:
    """An empty page would leave a person wondering."""
    assert workers_table([]) == "no worker reports to this broker"


def test_what_needs_a_person_comes_first() -> None:
    """What is out of service and why, with the command that puts it back; then devices that keep dying."""
    devices = (
        DeviceReport(device="npu:0", state="serving"),
        DeviceReport(device="npu:1", state="restarting", deaths=3, reason="killed by SIGSEGV"),
        DeviceReport(device="npu:2", state="out of service", reason="given up"),
        DeviceReport(device="npu:3", state="out of service", reason="exit code 3"),
    )
    host = HostReport(host="b", pid=1, state="serving", devices=devices)
    cordons = {"b/npu:2": Cordon(reason="given up", since="2026-01-01"), "c": Cordon(reason="", since="2026-01-02")}
    text = str(FleetView([host], cordons, [report("npu:0")]))
    assert text.split("\n\n", maxsplit=1)[0].splitlines() == [
        "out of service: b/npu:2 since 2026-01-01: given up; to put it back: ddim-fleet uncordon b/npu:2",
        "out of service: c (no supervisor reports from there) since 2026-01-02: no reason given; "
        "to put it back: ddim-fleet uncordon c",
        "restarting: b/npu:1, died 3 times without an image, last: killed by SIGSEGV",
        "out of service: b/npu:3: exit code 3",
    ]
    assert text.split("\n\n")[1] == workers_table([report("npu:0")])
