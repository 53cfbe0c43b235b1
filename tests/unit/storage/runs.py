"""Small runs for tests: planned, committed and finished through ``RunFolder``, with drawn images."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from PIL import Image, ImageDraw

from ddim_core.contracts.manifest import ChunkStats, FileEntry, Manifest
from ddim_core.contracts.plan import (
    ChunkItem,
    Container,
    ModelRef,
    PlannedRequest,
    RunPlan,
    chunk_items,
    split_into_chunks,
)
from ddim_core.contracts.record import FAILED, SUCCESS, Record
from ddim_core.contracts.request import Request
from ddim_core.storage.image_names import image_path
from ddim_core.storage.run_folder import (
    RunFolder,
    encode_chunk,
    encode_part,
    file_entry,
    part_path,
    shard_path,
    stats_path,
)

STARTED_AT = "2026-11-23T10:00:00.000+00:00"
CHUNK_SECONDS = 4.0
CHUNK_PERIOD_S = 3
"""Two workers take a chunk each at the same time, and overlap it with their next."""
SCHEDULER = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}


@dataclass(frozen=True)
class SmallRun:
    """What a run is made of; each field has a value that will do."""

    prompts: Sequence[str] = ("a red square", "a green circle", "a blue square", "a yellow circle")
    failing: frozenset[str] = frozenset()
    """Prompts whose images fail."""
    images_per_chunk: int = 2
    committed: int | None = None
    """How many chunks are done; all unless given."""
    container: Container = "webdataset"
    side_px: int = 64

    def requests(self) -> list[Request]:
        """Return the requests, one a prompt."""
        return [
            Request(
                prompt=prompt, custom_id=f"r{number}", height=self.side_px, width=self.side_px, num_inference_steps=20
            )
            for number, prompt in enumerate(self.prompts)
        ]


def small_plan(run: SmallRun | None = None) -> RunPlan:
    """Return the plan of a small run."""
    run = run or SmallRun()
    requests = run.requests()
    count = sum(request.image_count for request in requests)
    return RunPlan(
        run_id="small-run-0001",
        created_at=STARTED_AT,
        model=ModelRef(name="ddim-shapes-64", digest="sha256:" + "ab" * 32, scheduler=SCHEDULER),
        container=run.container,
        seed=7,
        request_count=len(requests),
        image_count=count,
        chunk_count=-(-count // run.images_per_chunk),
        images_per_chunk=run.images_per_chunk,
        requests_digest="sha256:" + "cd" * 32,
        versions={"ddim-fleet": "0.1.0", "mindspore": "2.7.1"},
    )


def small_chunks(run: SmallRun | None = None) -> list[list[PlannedRequest]]:
    """Return the chunks of a small run."""
    run = run or SmallRun()
    return list(split_into_chunks(enumerate(run.requests()), run.images_per_chunk))


def write_run(url: str, run: SmallRun | None = None) -> RunFolder:
    """Write a run as producer and workers would, and return its folder."""
    run = run or SmallRun()
    folder, plan, chunks = RunFolder(url), small_plan(run), small_chunks(run)
    folder.write_plan(plan)
    for chunk, lines in enumerate(chunks):
        folder.write_chunk(chunk, encode_chunk(lines))
    done = len(chunks) if run.committed is None else run.committed
    for chunk in range(done):
        _commit(folder, run, chunk, list(chunk_items(plan, chunk, chunks[chunk])))
    if done == len(chunks):
        folder.write_manifest(_manifest(folder, plan))
    return folder


def draw(prompt: str, side_px: int) -> bytes:
    """Return the PNG of a picture that shows the colour and the shape that the prompt names."""
    words = prompt.split()
    colour = next((word for word in words if word in ("red", "green", "blue", "yellow", "orange", "purple")), "grey")
    image = Image.new("RGB", (side_px, side_px), "#f4f1ea")
    pen, box = ImageDraw.Draw(image), (side_px // 5, side_px // 5, side_px * 4 // 5, side_px * 4 // 5)
    (pen.ellipse if "circle" in words else pen.rectangle)(box, fill=colour)
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def _commit(folder: RunFolder, run: SmallRun, chunk: int, items: list[ChunkItem]) -> None:
    images = {item.key: draw(item.spec.prompt, run.side_px) for item in items if item.spec.prompt not in run.failing}
    paths = {item.key: _path(run, chunk, item) for item in items}
    files = _write_images(folder, paths, images)
    part = encode_part([_record(item, chunk, paths[item.key], images.get(item.key)) for item in items])
    stats = ChunkStats(
        chunk=chunk,
        images=len(images),
        failed=len(items) - len(images),
        attempts=1,
        seconds=CHUNK_SECONDS,
        started_at=_clock(chunk // 2 * CHUNK_PERIOD_S),
        finished_at=_clock(chunk // 2 * CHUNK_PERIOD_S + CHUNK_SECONDS),
        worker=f"host-{chunk % 2}/1",
        device=f"Ascend:{chunk % 2}",
        files=(*files, file_entry(part_path(chunk), part)),
    )
    folder.store.put(stats_path(chunk), stats.model_dump_json().encode())
    folder.store.put(part_path(chunk), part)


def _clock(seconds: float) -> str:
    return (datetime.fromisoformat(STARTED_AT) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def _path(run: SmallRun, chunk: int, item: ChunkItem) -> str:
    if run.container == "webdataset":
        return shard_path(chunk)
    return image_path(small_plan(run), item.key, str(item.request.custom_id), item.image)


def _write_images(folder: RunFolder, paths: dict[str, str], images: dict[str, bytes]) -> list[FileEntry]:
    objects = {paths[key]: data for key, data in images.items()}
    if any(path.endswith(".tar") for path in objects):
        objects = {path: _tar(images) for path in objects}
    for path, data in objects.items():
        folder.store.put(path, data)
    return [file_entry(path, data) for path, data in objects.items()]


def _tar(images: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for key, data in images.items():
            for name, content in ((f"{key}.png", data), (f"{key}.txt", b"caption"), (f"{key}.json", b"{}")):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def _record(item: ChunkItem, chunk: int, path: str, data: bytes | None) -> Record:
    spec = item.spec
    record = Record(
        key=item.key,
        custom_id=str(item.request.custom_id),
        request_index=item.index,
        image=item.image,
        status=FAILED,
        error_code="not_finite",
        error_class="NotFiniteError",
        error_message="the image holds NaN",
        attempts=3,
        prompt=spec.prompt,
        negative_prompt=spec.negative_prompt,
        seed=spec.seed,
        image_index=spec.image_index,
        num_inference_steps=spec.num_inference_steps,
        guidance_scale=spec.guidance_scale,
        guidance_rescale=spec.guidance_rescale,
        eta=spec.eta,
        height=spec.height,
        width=spec.width,
        scheduler=json.dumps(SCHEDULER),
        metadata={},
        model="ddim-shapes-64",
        model_digest="sha256:" + "ab" * 32,
        format="png",
        device_kind="Ascend910B",
        device=f"Ascend:{chunk % 2}",
        slots=8,
        dtype="float16",
        worker=f"host-{chunk % 2}/1",
        versions="{}",
        seconds=1.25,
    )
    return record if data is None else _made(record, file_entry(path, data))


def _made(record: Record, where: FileEntry) -> Record:
    made: dict[str, Any] = {
        "status": SUCCESS,
        "error_code": None,
        "error_class": None,
        "error_message": None,
        "attempts": 1,
    }
    return replace(record, path=where.path, size_bytes=where.size_bytes, sha256=where.sha256, **made)


def _manifest(folder: RunFolder, plan: RunPlan) -> Manifest:
    stats = [folder.read_stats(chunk) for chunk in range(plan.chunk_count)]
    return Manifest(
        run_id=plan.run_id,
        images=sum(each.images for each in stats),
        failed=sum(each.failed for each in stats),
        chunks=plan.chunk_count,
        model=plan.model.name,
        model_digest=plan.model.digest,
        started_at=STARTED_AT,
        finished_at=stats[-1].finished_at,
        seconds=(len(stats) - 1) // 2 * CHUNK_PERIOD_S + CHUNK_SECONDS,
        files=tuple(file for each in stats for file in each.files),
    )
