"""An estimate says whose figures it rests on, and nothing where there are none."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ddim_core.contracts.image_encoding import ImageEncoding
from ddim_core.contracts.queue import WorkerReport
from ddim_core.contracts.request import Request
from ddim_core.errors import RunUnfinishedError
from ddim_core.storage.run_folder import RunFolder
from producer.requests.workload import Workload
from producer.runs.estimate import estimate_text, estimated
from producer.runs.measured import Measured, measured
from producer.runs.options import RunOptions
from tests.unit.producer.written_runs import written_run
from tests.unit.storage.runs import SmallRun, write_run

WORK = Workload(
    requests=10,
    images=1000,
    steps=20_000,
    evaluations=40_000,
    pixel_evaluations=40_000 * 4096,
    pixels=1000 * 4096,
    request_bytes=240_000,
)
EARLIER = Measured(
    run_url="file:///out/before", encoding=ImageEncoding("png"), bytes_per_pixel=0.5, work_per_device_s=4096 * 100
)


def report(images_per_s: float) -> WorkerReport:
    return WorkerReport(worker_id="w", host="h", pid=1, device="sim:0", state="ready", images_per_s=images_per_s)


def test_time_follows_from_the_work_that_a_device_did_before() -> None:
    """Evaluations of the denoiser times pixels: steps, guidance and sizes of the two runs may differ."""
    estimate = estimated(WORK, RunOptions(out="x"), EARLIER, [report(99.0)])
    assert estimate.device_hours == pytest.approx(400 / 3600)
    assert estimate.size_bytes == round(1000 * 4096 * 0.5) + 4010 * 1000 + 20_200 * 63 + 240_000 + 16_000
    assert (estimate.chunks, estimate.images_per_chunk) == (63, 16)
    assert "about 0.111, as fast as file:///out/before" in estimate_text(estimate)


def test_without_a_run_the_workers_tell_their_speed() -> None:
    """Those that make nothing now tell nothing."""
    estimate = estimated(WORK, RunOptions(out="x"), None, [report(2.0), report(0.0), report(3.0)])
    assert estimate.device_hours == pytest.approx(1000 * 2 / 5 / 3600)
    assert estimate.speed_from == "fast as 2 workers now make the images of other runs"


def test_what_nobody_measured_is_called_unknown() -> None:
    """A made-up figure would be believed."""
    estimate = estimated(WORK, RunOptions(out="x", model="/models/sd15"), None, [])
    assert (estimate.device_hours, estimate.size_bytes) == (None, None)
    text = estimate_text(estimate)
    assert text.count("unknown; --speed-from RUN_URL takes it from a finished run") == 2


def test_sizes_hold_for_one_encoding() -> None:
    """A run of PNG says how fast one of JPEG will be, and not how large."""
    options = RunOptions(out="x", model="/models/sd15", encoding=ImageEncoding("jpg", 95))
    estimate = estimated(WORK, options, EARLIER, [])
    assert estimate.size_bytes is None
    assert estimate.device_hours is not None
    shipped = estimated(WORK, replace(options, model="shapes"), EARLIER, [])
    assert shipped.size_from == "images of shapes"


def test_a_finished_run_tells_its_rates(tmp_path: Path) -> None:
    """What was made, by how many devices, in which time; failed images are no work done."""
    run = SmallRun(failing=frozenset({"a blue square"}))
    folder = write_run(str(tmp_path / "run"), run)
    rates = measured(folder)
    manifest = folder.read_manifest()
    made = [record for record in folder.records() if record.status == "success"]
    assert manifest is not None
    devices = {record.worker.rpartition("/")[0] for record in made}
    assert (len(made), len(devices)) == (3, 2)
    work = sum(2 * record.num_inference_steps * record.height * record.width for record in made)
    assert rates.work_per_device_s == pytest.approx(work / manifest.seconds / len(devices))
    assert rates.bytes_per_pixel == pytest.approx(
        sum(record.size_bytes or 0 for record in made) / sum(record.height * record.width for record in made)
    )


def test_a_run_that_goes_on_tells_no_rates(tmp_path: Path) -> None:
    """Its time is not over."""
    folder: RunFolder = written_run(tmp_path / "run")
    with pytest.raises(RunUnfinishedError, match=r"^a speed must be taken from a run that is finished, file://\S+ is"):
        measured(folder)


def test_a_few_requests_are_shown_as_their_lines_became_them() -> None:
    """The first three and the last, each in a line, so that a list in the wrong place is seen before it is made."""
    work = Workload()
    for number in range(5):
        prompt = f"a {'large ' * 40}star\n{number}"
        work.add(Request(prompt=prompt, custom_id=f"star-{number}", height=64, width=64), 10)
    estimate = estimated(work, RunOptions(out="x"), None, [])
    assert [example.custom_id for example in estimate.examples] == ["star-0", "star-1", "star-2", "star-4"]
    *_, first, _, _, dots, last = estimate_text(estimate).splitlines()
    assert re.fullmatch(r"prompts       star-0: a (large )+l?a?r?g?e?\.\.\.", first) and len(first) < 130
    assert dots.strip() == "..." and last.strip().startswith("star-4: a large")
