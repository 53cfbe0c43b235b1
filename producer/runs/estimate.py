"""What a run will come to, before anything of it is written: work, time and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ddim_core.contracts.image_encoding import ImageEncoding
from ddim_core.contracts.plan import Container
from ddim_core.contracts.queue import WorkerReport
from ddim_core.hiding import without_controls
from producer.requests.advice import Advice
from producer.requests.workload import SHOWN, Workload
from producer.runs.measured import Measured
from producer.runs.options import RunOptions
from producer.runs.planning import images_per_chunk_of
from producer.words import counted

# Measured on 2026-11-23 from 72 images of 64x64 that the checkpoint made, each encoded in every format, and from parts,
# shards and tables of 4 to 4000 of their rows.
_MEASURED_MODEL = "shapes"
_BYTES_PER_PIXEL = {
    ImageEncoding("png"): 0.944,
    ImageEncoding("jpg", 95): 0.430,
    ImageEncoding("webp", 95): 0.176,
    ImageEncoding("webp"): 0.771,
}
_BESIDE_IMAGE_BYTES: dict[Container, int] = {"webdataset": 4010, "imagefolder": 200, "files": 180}
"""An image's row in the part, and caption and JSON in the shard with their padding, or a line of the manifest."""
_CHUNK_BYTES: dict[Container, int] = {"webdataset": 20_200, "imagefolder": 14_200, "files": 14_200}
"""A part without rows has 13.6 kB, and a shard is filled up to a multiple of 10 kB."""
_PROMPT_CHARS = 100
_RUN_BYTES = 16_000
"""The plan, twice, and the card."""


@dataclass(frozen=True, slots=True)
class Example:
    """One request of a run, as its line became it."""

    custom_id: str
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A run in numbers; None where nobody has measured."""

    requests: int
    images: int
    cut_images: int
    """Images whose prompt or negative prompt is cut to what the text encoder takes."""
    windowed_images: int
    """Images whose prompts fill several windows of the text encoder."""
    most_windows: int
    steps: int
    """Of denoising, of all images."""
    denoiser_evaluations: int
    """Images that the denoiser works on: with guidance two a step."""
    chunks: int
    images_per_chunk: int
    size_bytes: int | None
    size_from: str | None
    """What images the size is that of."""
    device_hours: float | None
    speed_from: str | None
    """Whose speed it is."""
    examples: tuple[Example, ...] = ()
    """The first requests and the last, as they will be made."""
    advice: Advice = field(default_factory=Advice)
    """What a person should know of the model."""


def estimated(
    workload: Workload, options: RunOptions, earlier: Measured | None, reports: Sequence[WorkerReport]
) -> Estimate:
    """Return what a run comes to; its speed is that of an ``earlier`` one, or else of the workers that report one."""
    images_per_chunk = images_per_chunk_of(options, workload)
    chunks = -(-workload.images // images_per_chunk)
    bytes_per_pixel, size_from = _image_size(options, earlier)
    beside = _BESIDE_IMAGE_BYTES[options.container] * workload.images + _CHUNK_BYTES[options.container] * chunks
    standing = workload.request_bytes + _RUN_BYTES
    device_s, speed_from = _device_time(workload, earlier, reports)
    return Estimate(
        requests=workload.requests,
        images=workload.images,
        cut_images=workload.cut_images,
        windowed_images=workload.windowed.total(),
        most_windows=max((shape.windows for shape in workload.windowed), default=1),
        steps=workload.steps,
        denoiser_evaluations=workload.evaluations,
        chunks=chunks,
        images_per_chunk=images_per_chunk,
        size_bytes=None if bytes_per_pixel is None else round(bytes_per_pixel * workload.pixels) + beside + standing,
        size_from=size_from,
        device_hours=None if device_s is None else device_s / 3600,
        speed_from=speed_from,
        examples=_examples(workload),
        advice=workload.advice,
    )


def estimate_text(estimate: Estimate) -> str:
    """Return an estimate as a short table."""
    size = hours = "unknown; --speed-from RUN_URL takes it from a finished run"
    if estimate.size_bytes is not None:
        size = f"about {_in_bytes(estimate.size_bytes)}, as {estimate.size_from}"
    if estimate.device_hours is not None:
        hours = f"about {estimate.device_hours:.3g}, as {estimate.speed_from}"
    evaluations = f"{estimate.denoiser_evaluations:,} evaluations of the denoiser"
    rows = {
        "requests": f"{estimate.requests:,}",
        "images": f"{estimate.images:,} in {counted(estimate.chunks, 'chunk')} of up to {estimate.images_per_chunk}",
        **_long_prompts(estimate),
        "steps": f"{estimate.steps:,}; {evaluations}, two a step with guidance",
        "storage": size,
        "device hours": hours,
    }
    if estimate.advice.recommended:
        rows["settings"] = f"as {estimate.advice.model} recommends them: {estimate.advice.settings()}"
    shown = [_in_a_line(example) for example in estimate.examples]
    if 0 < len(shown) < estimate.requests:
        shown.insert(-1, "...")
    lines = [*rows.items(), *(("warning", words) for words in estimate.advice.warnings)]
    lines += [("" if number else "prompts", text) for number, text in enumerate(shown)]
    return "\n".join(f"{name:<13} {value}" for name, value in lines)


def _examples(workload: Workload) -> tuple[Example, ...]:
    """Return a few requests that show whether lists and sweeps became what was meant."""
    shown = [*workload.first, *([workload.last] if workload.last and workload.requests > SHOWN else [])]
    return tuple(Example(str(request.custom_id), request.prompt) for request in shown)


def _in_a_line(example: Example) -> str:
    prompt = without_controls(" ".join(example.prompt.split()))
    cut = prompt if len(prompt) <= _PROMPT_CHARS else f"{prompt[:_PROMPT_CHARS]}..."
    return f"{without_controls(example.custom_id)}: {cut}"


def _long_prompts(estimate: Estimate) -> dict[str, str]:
    """Return a line on prompts that are longer than the text encoder takes, if there are some."""
    parts = []
    if estimate.cut_images:
        parts.append(f"{counted(estimate.cut_images, 'image')} of prompts that are cut")
    if estimate.windowed_images:
        windows = f"of up to {estimate.most_windows} windows of the text encoder"
        parts.append(f"{counted(estimate.windowed_images, 'image')} of prompts {windows}")
    return {"long prompts": "; ".join(parts)} if parts else {}


def _image_size(options: RunOptions, earlier: Measured | None) -> tuple[float | None, str | None]:
    """Return bytes a pixel, and what images they are those of; as PNG and JPEG differ, only of the same encoding."""
    if earlier is not None and earlier.encoding == options.encoding:
        return earlier.bytes_per_pixel, f"images of {earlier.run_url}"
    known = _BYTES_PER_PIXEL.get(options.encoding) if options.model == _MEASURED_MODEL else None
    return known, None if known is None else f"images of {_MEASURED_MODEL}"


def _device_time(
    workload: Workload, earlier: Measured | None, reports: Sequence[WorkerReport]
) -> tuple[float | None, str | None]:
    if earlier is not None:
        return workload.pixel_evaluations / earlier.work_per_device_s, f"fast as {earlier.run_url}"
    busy = [report.images_per_s for report in reports if report.images_per_s > 0]
    if busy:
        workers = counted(len(busy), "worker")
        return workload.images * len(busy) / sum(busy), f"fast as {workers} now make the images of other runs"
    return None, None


def _in_bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
