"""A row of the manifest: how one image came to be, or why it did not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, cast

import pyarrow as pa

from ddim_core.contracts.image_encoding import ImageEncoding, ImageFormat
from ddim_core.contracts.long_prompts import LongPrompts
from ddim_core.contracts.sample import SampleSpec
from ddim_core.contracts.start import Between, Picture, Start
from ddim_core.schedule import DOWN, Glimpse, Path, RoundTrip, ScheduleConfig

SUCCESS = "success"
FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Everything needed to make the image again, and where it is. Failed ones have an error and no file."""

    key: str
    custom_id: str
    request_index: int
    image: int
    """Which image of its request, from 0."""
    status: str
    error_code: str | None = None
    """What kind of failure it was, in a word for programs: ``FleetError.code``."""
    error_class: str | None = None
    error_message: str | None = None
    attempts: int = 1
    prompt: str
    negative_prompt: str
    prompt_used: str | None = None
    """Its beginning, as far as the text encoder takes it, where it was cut; None: all of it was used."""
    negative_prompt_used: str | None = None
    prompt_tokens: int | None = None
    """Of all of it, with the marks of start and end; None of a model that takes no prompts, or where nobody counted."""
    negative_prompt_tokens: int | None = None
    long_prompts: str = "cut"
    """``refuse``, ``cut`` or ``chunk``: what becomes of prompts that the text encoder is too short for."""
    windows: int = 1
    """With ``chunk``, how many windows of the text encoder both prompts fill."""
    class_label: int | None = None
    """Of a model that draws classes; None of any other."""
    kind: str = "image"
    """``image``, ``interpolate``, ``trace`` or ``invert``."""
    frame: int = 0
    """Which image of an interpolation or a trace this is, from 0."""
    frames: int = 1
    """How many of them there are."""
    seed: int
    image_index: int
    """Second half of the noise key; see ``SampleSpec``."""
    to_seed: int | None = None
    """Of an interpolation: to whose noise it leads."""
    fraction: float | None = None
    """Of an interpolation: how much of the angle to that noise, in [0, 1]."""
    num_inference_steps: int
    steps_taken: int | None = None
    """Of a trace: after how many of the steps the model's x_0 is shown."""
    guidance_scale: float
    guidance_rescale: float
    eta: float
    height: int
    width: int
    scheduler: str
    """The whole ``ScheduleConfig`` as JSON."""
    metadata: Mapping[str, str]
    """The request's own; a part holds it as JSON, see ``metadata_text``."""
    model: str
    model_digest: str
    format: str
    quality: int | None = None
    """1 to 100; None: the format loses nothing."""
    path: str | None = None
    """Object in the run's folder that holds the image: a shard, or the image itself."""
    size_bytes: int | None = None
    sha256: str | None = None
    """Of the encoded image."""
    source: str | None = None
    """Of an inversion: the picture's copy in the run's folder, named by its sha256."""
    reconstruction_error: float | None = None
    """Of an inversion: mean square of what each pixel in [0, 1] differs by from the picture, before it is encoded."""
    latents: str | None = None
    """Of an inversion: the object in the run's folder that holds x_T."""
    latents_size_bytes: int | None = None
    latents_sha256: str | None = None
    device_kind: str
    device: str
    slots: int
    """Batch shape of the denoiser: with device kind, decode_batch, dtype and versions, what equal bytes hold for."""
    decode_batch: int = 1
    """Images that the decoder had room for, as for slots."""
    dtype: str
    cpu_threads: int | None = None
    """Threads of the CPU's kernels; None on other devices."""
    worker: str
    versions: str
    """Versions of ddim-fleet, MindSpore, mindone, Python and what encodes the image, as JSON."""
    seconds: float
    """From admission to the decoded image."""


_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "Mapping[str, str]": pa.string()}


def _arrow_field(name: str, annotation: str) -> pa.Field[Any]:
    kind, _, optional = annotation.partition(" | ")
    return pa.field(name, _TYPES[kind], nullable=bool(optional))


ADDED_LATER: frozenset[str] = frozenset(
    {
        "error_code",
        "prompt_used",
        "negative_prompt_used",
        "prompt_tokens",
        "negative_prompt_tokens",
        "long_prompts",
        "windows",
    }
)
"""Columns that parts of earlier versions may lack: their rows have the defaults, and of failures the class's code."""

RECORD_SCHEMA: pa.Schema = pa.schema([_arrow_field(f.name, str(f.type)) for f in fields(Record)])
"""The fixed Arrow schema of manifest parts: one column a field of ``Record``, in its order."""


def record_from_row(row: Mapping[str, Any]) -> Record:
    """Return the record that a row of a manifest part holds.

    Raises:
        ArrowInvalid: Its metadata, scheduler or versions are no JSON object.
    """
    for name in ("scheduler", "versions"):
        _check_object(name, row[name])
    return Record(**{**row, "metadata": _object_in("metadata", row["metadata"])})


def column_of(records: Iterable[Record], name: str) -> list[Any]:
    """Return what a manifest part holds in a column.

    Raises:
        TypeError: A record's metadata is no mapping.
    """
    values = [getattr(record, name) for record in records]
    return [metadata_text(value) for value in values] if name == "metadata" else values


def metadata_text(metadata: Mapping[str, str]) -> str:
    """Return a record's metadata as files hold it: JSON, the same for equal metadata.

    Raises:
        TypeError: It is no mapping.
    """
    if not isinstance(metadata, Mapping):  # a text would silently become a text in JSON
        raise TypeError(f"metadata must be a mapping, got {metadata!r:.80}")
    return json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True)


@lru_cache(maxsize=1024)
def _check_object(column: str, text: str) -> None:
    """Make sure that a text is a JSON object; a million rows share a few."""
    _object_in(column, text)


def _object_in(column: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise pa.ArrowInvalid(f"column {column} must be a JSON object, got {text!r:.80}")
    return found


def encoding_of(record: Record) -> ImageEncoding:
    """Return how the row's image became a file."""
    return ImageEncoding(cast(ImageFormat, record.format), record.quality)


def spec_of(record: Record) -> SampleSpec:
    """Return what the row's image was made from: equal to what the sampler was given."""
    return SampleSpec(
        prompt=record.prompt,
        negative_prompt=record.negative_prompt,
        class_label=record.class_label,
        seed=record.seed,
        image_index=record.image_index,
        num_inference_steps=record.num_inference_steps,
        guidance_scale=record.guidance_scale,
        guidance_rescale=record.guidance_rescale,
        eta=record.eta,
        height=record.height,
        width=record.width,
        schedule=ScheduleConfig.from_mapping(json.loads(record.scheduler)),
        start=_start_of(record),
        path=_path_of(record),
        long_prompts=cast(LongPrompts, record.long_prompts),
        windows=record.windows,
    )


def caption_of(row: Any) -> str:
    """Return what an image is said to show: of a row's prompt, what was seen of it."""
    return str(row.prompt if row.prompt_used is None else row.prompt_used)


def is_cut(row: Any) -> bool:
    """Return whether not all of a row's prompts was seen."""
    return row.prompt_used is not None or row.negative_prompt_used is not None


def way_columns(spec: SampleSpec) -> dict[str, Any]:
    """Return the columns that say where a sample began and which way it took, from which ``spec_of`` takes them."""
    return {
        "kind": spec.kind,
        "to_seed": spec.start.to_seed if isinstance(spec.start, Between) else None,
        "fraction": spec.start.fraction if isinstance(spec.start, Between) else None,
        "steps_taken": spec.path.steps if isinstance(spec.path, Glimpse) else None,
        "source": spec.start.source if isinstance(spec.start, Picture) else None,
    }


def _start_of(record: Record) -> Start | None:
    if record.to_seed is not None and record.fraction is not None:
        return Between(record.to_seed, record.fraction)
    return None if record.source is None else Picture(record.source)


def _path_of(record: Record) -> Path:
    if record.steps_taken is not None:
        return Glimpse(record.steps_taken)
    return RoundTrip() if record.source is not None else DOWN
