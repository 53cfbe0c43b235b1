"""Plans, items and samplers for tests of workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from ddim_core.contracts.plan import ChunkItem, ModelRef, PlannedRequest, RunPlan, chunk_items
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import BatchShape, Counters, SampledImage, SampleSpec
from workers.chunks.records import RecordMaker
from workers.samplers.samplers import LoadedSampler, SamplerFacts

FACTS = SamplerFacts(device_kind="cpu", device="cpu:0", slots=2, dtype="float32", versions="{}")


class ScriptedSampler:
    """A sampler that answers at once, by a function of the spec that returns an image or raises."""

    def __init__(self, answer: Callable[[SampleSpec], SampledImage] | None = None) -> None:
        self.answer = answer or picture
        self.submitted: list[SampleSpec] = []
        self.prepared: list[tuple[tuple[BatchShape, ...], bool]] = []
        self.closed = False

    def prepare(self, shapes: Sequence[BatchShape], *, thresholding: bool = False, inverting: bool = False) -> None:
        """Remember what was asked for."""
        self.prepared.append((tuple(shapes), thresholding))

    def counters(self) -> Counters:
        """Say that half of the slots were in use."""
        return Counters(steps=4, full_steps=2.0)

    def submit(self, spec: SampleSpec, deadline_s: float | None = None) -> Future[SampledImage]:
        """Answer in the caller's thread."""
        self.submitted.append(spec)
        image: Future[SampledImage] = Future()
        try:
            image.set_result(self.answer(spec))
        except Exception as exc:
            image.set_exception(exc)
        return image

    def close(self, *, drain: bool = True) -> None:
        """Remember that it was closed."""
        self.closed = True


def picture(spec: SampleSpec) -> SampledImage:
    """Return a picture of one colour, from the seed."""
    return SampledImage(np.full((spec.height, spec.width, 3), spec.seed % 256, np.uint8), seconds=0.5, slots=2)


def loaded(sampler: ScriptedSampler) -> LoadedSampler:
    """Return the sampler as one that was loaded on a device with two slots."""
    return LoadedSampler(sampler, FACTS)


def plan(images: int, *, container: str = "webdataset", chunk_count: int = 1, digest: str = "d") -> RunPlan:
    """Return the plan of a run with one request a chunk."""
    return RunPlan.model_validate(
        {
            "run_id": "run-0001",
            "created_at": "2026-01-01T00:00:00Z",
            "model": ModelRef(name="m", digest=digest, scheduler={}),
            "container": container,
            "request_count": chunk_count,
            "image_count": images * chunk_count,
            "chunk_count": chunk_count,
            "images_per_chunk": images,
            "requests_digest": "r",
        }
    )


def lines(images: int, prompt: str = "a star") -> list[PlannedRequest]:
    """Return a chunk of one request with so many images."""
    request = Request(
        prompt=prompt,
        num_images_per_prompt=images,
        seed=7,
        height=8,
        width=16,
        custom_id="c",
        num_inference_steps=3,
        guidance_scale=7,
        metadata={"b": "2", "a": "1"},
    )
    return [PlannedRequest(index=0, first_image=0, image_count=images, request=request)]


def items(images: int, *, container: str = "webdataset") -> list[ChunkItem]:
    """Return the images of that chunk."""
    return list(chunk_items(plan(images, container=container), 0, lines(images)))


def records(images: int, *, container: str = "webdataset", attempts: int = 1) -> RecordMaker:
    """Return what writes the records of that chunk."""
    return RecordMaker(plan(images, container=container), FACTS, "host/cpu:0/1", attempts)
