"""The rows of a chunk: what became of each of its images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ddim_core.checkpoints.prompts import PromptReader
from ddim_core.contracts.image_encoding import ImageFormat
from ddim_core.contracts.manifest import FileEntry
from ddim_core.contracts.plan import ChunkItem, RunPlan
from ddim_core.contracts.record import FAILED, SUCCESS, Record, way_columns
from ddim_core.contracts.sample import SampledImage
from ddim_core.contracts.start import Picture
from ddim_core.errors import code_of
from ddim_core.hiding import without_secrets
from ddim_core.schedule import ScheduleConfig
from workers.chunks.encode import encoder_versions
from workers.chunks.long_prompts import text_columns
from workers.samplers.samplers import SamplerFacts

MAX_MESSAGE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Made:
    """One image of a chunk as it will be committed."""

    record: Record
    image: bytes | None
    """The encoded image, where it goes into a shard."""


@dataclass(frozen=True, slots=True)
class RecordMaker:
    """Writes the records of one attempt at a chunk."""

    plan: RunPlan
    facts: SamplerFacts
    worker: str
    attempts: int
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What no row shall show, whatever an error quotes."""
    prompts: PromptReader | None = None
    """What tells how long prompts are, where that is known."""

    def success(
        self, item: ChunkItem, data: bytes, path: str, image: SampledImage, latents: FileEntry | None = None
    ) -> Record:
        """Return the row of an image that was made, and lies or will lie in the object ``path`` as ``data``.

        ``latents``: where those of an inverted picture lie.
        """
        return Record(
            **_inversion(item, image, latents),
            status=SUCCESS,
            path=path,
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            slots=image.slots,
            decode_batch=image.decode_batch,
            seconds=image.seconds,
            **self._common(item),
        )

    def failure(self, item: ChunkItem, exc: BaseException) -> Record:
        """Return the row of an image that could not be made, because of ``exc``."""
        return Record(
            status=FAILED,
            error_code=code_of(exc),
            error_class=type(exc).__name__,
            error_message=without_secrets(str(exc) or type(exc).__name__, self.secrets)[:MAX_MESSAGE_CHARS],
            slots=self.facts.slots,
            decode_batch=self.facts.decode_batch,
            seconds=0.0,
            **self._common(item),
        )

    def _common(self, item: ChunkItem) -> dict[str, Any]:
        return {
            "key": item.key,
            "custom_id": item.request.custom_id or str(item.index),
            "request_index": item.index,
            "image": item.image,
            "attempts": self.attempts,
            "prompt": item.spec.prompt,
            "negative_prompt": item.spec.negative_prompt,
            "class_label": item.spec.class_label,
            **text_columns(item.spec, self.prompts),
            **way_columns(item.spec),
            "frame": 0 if item.request.special is None else item.image,
            "frames": 1 if item.request.special is None else item.request.image_count,
            "seed": item.spec.seed,
            "image_index": item.spec.image_index,
            "num_inference_steps": item.spec.num_inference_steps,
            "guidance_scale": float(item.spec.guidance_scale),
            "guidance_rescale": float(item.spec.guidance_rescale),
            "eta": float(item.spec.eta),
            "height": item.spec.height,
            "width": item.spec.width,
            "scheduler": _schedule_json(item.spec.schedule),
            "metadata": item.request.metadata,
            "model": self.plan.model.name,
            "model_digest": self.plan.model.digest,
            "format": self.plan.image_format,
            "quality": self.plan.quality,
            "device_kind": self.facts.device_kind,
            "device": self.facts.device,
            "dtype": self.facts.dtype,
            "cpu_threads": self.facts.cpu_threads,
            "worker": self.worker,
            "versions": versions_json(self.facts.versions, self.plan.image_format),
        }


def _inversion(item: ChunkItem, image: SampledImage, latents: FileEntry | None) -> dict[str, Any]:
    if latents is None or not isinstance(item.spec.start, Picture) or item.spec.start.pixels is None:
        return {}
    difference = (item.spec.start.pixels.astype(np.float64) - image.pixels) / 255
    return {
        "latents": latents.path,
        "latents_size_bytes": latents.size_bytes,
        "latents_sha256": latents.sha256,
        "reconstruction_error": float(np.mean(difference**2)),
    }


@lru_cache(maxsize=256)
def _schedule_json(schedule: ScheduleConfig) -> str:
    return json.dumps(schedule.to_mapping(), sort_keys=True)


@lru_cache(maxsize=16)
def versions_json(versions: str, image_format: ImageFormat) -> str:
    """Return a sampler's versions as JSON, with those of what encodes its images."""
    return json.dumps({**json.loads(versions), **encoder_versions(image_format)}, sort_keys=True)
