"""A run's plan (``run.json``) and its chunks: all that is needed to make, or finish, the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ddim_core.contracts.changes import Change, Extension, RetryOrder, WindowedSize
from ddim_core.contracts.image_encoding import ImageEncoding, ImageFormat
from ddim_core.contracts.kinds import INPUT
from ddim_core.contracts.lean import Lean
from ddim_core.contracts.long_prompts import MODES, LongPrompts
from ddim_core.contracts.moment import Moment
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import MAX_SIZES, BatchShape, SampleSpec, Size, SizeName
from ddim_core.errors import InputError
from ddim_core.schedule import ScheduleConfig

IMAGES_PER_CHUNK_LIMIT = 10_000
"""A key has four digits for the image within its chunk, as img2dataset's keys do."""

Container = Literal["webdataset", "imagefolder", "files"]
"""Tar shards; images with their captions in a table beside them; images alone, named after their requests."""


Priority = Literal["low", "normal", "high"]
"""Whose chunks workers take first."""

NAMES = "request names"
"""In a plan's versions: the rule by which requests are named that stand in one line. Plans of 0.1.0 have none."""
_SEPARATORS = {"": "/", "2": "-"}
"""By version of that rule: what stands between the line's id and the request's number. File names take no slash."""
NAMES_VERSION = "2"


class ModelRef(BaseModel):
    """Which checkpoint a run is sampled from: a name or path that workers resolve, and its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    scheduler: dict[str, Any]
    """The checkpoint's own scheduler config, as ``ScheduleConfig`` fields."""
    variant: str | None = None
    """Of its weights, such as ``fp16``; None: the plain ones. The digest is that of this variant."""

    @model_serializer(mode="wrap")
    def _older_versions_know_no_variant(self, to_dict: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in to_dict(self).items() if name != "variant" or value is not None}

    def schedule(self) -> ScheduleConfig:
        """Return the checkpoint's scheduler config, to which requests apply their overrides."""
        return ScheduleConfig.from_mapping(self.scheduler)


class RunPlan(Lean):
    """What a run is: as it was written once, before anything was queued, and what was added to it since."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    added_later: ClassVar[frozenset[str]] = frozenset({"windowed", "cut_images"})

    version: Literal[1] = 1
    run_id: str = Field(pattern=r"^[a-z0-9-]{8,64}$")
    created_at: Moment
    model: ModelRef
    container: Container = "webdataset"
    image_format: ImageFormat = "png"
    quality: int | None = None
    """1 to 100; None: the format loses nothing."""
    results: bool = False
    """Whether the run ends with result and error lines of the OpenAI Batch form."""
    seed: int = 0
    request_count: int = Field(ge=1)
    image_count: int = Field(ge=1)
    chunk_count: int = Field(ge=1)
    images_per_chunk: int = Field(ge=1, le=IMAGES_PER_CHUNK_LIMIT)
    requests_digest: str
    """sha256 over the chunk files in order: two plans with equal digest, model and seed make the same images."""
    sizes: tuple[SizeName, ...] = Field(default=(), max_length=MAX_SIZES)
    """Of its images, the most frequent first, for workers to compile before they make one; older plans list none.

    Those of ``windowed`` are apart."""
    windowed: tuple[WindowedSize, ...] = Field(default=(), max_length=MAX_SIZES)
    """Sizes of images whose prompts take more than one window of the text encoder, the most frequent first."""
    cut_images: int = Field(default=0, ge=0)
    """Images whose prompt or negative prompt is cut to what the text encoder takes; older plans do not know."""
    thresholding: bool = False
    """Whether an image may have dynamic thresholding, which takes a graph of its own."""
    inverting: bool = False
    """Whether pictures are inverted, which takes one, too."""
    versions: dict[str, str] = Field(default_factory=dict)
    priority: Priority = "normal"
    defaults: dict[str, Any] = Field(default_factory=dict)
    """Fields of requests that did not give them; requests that are added later get the same."""
    changes: tuple[Change, ...] = Field(default=(), exclude=True)
    """What was added since ``run.json`` was written, which does not hold it; the counts above include it."""

    @property
    def name_separator(self) -> str:
        """What stands between a line's id and the numbers of the requests that it stands for, in this run for good.

        Raises:
            InputError: A later version names them by a rule of its own.
        """
        version = self.versions.get(NAMES, "")
        if version not in _SEPARATORS:
            rule = f"{NAMES} of a run must be of version {NAMES_VERSION}, got {version!r:.80}"
            raise InputError(f"{rule}; extend it with the version that began it, or a later one")
        return _SEPARATORS[version]

    def with_change(self, change: Change) -> RunPlan:
        """Return the plan with one more change.

        Raises:
            ValueError: It extends a run with another number of chunks.
        """
        counts: dict[str, Any] = {}
        if isinstance(change, Extension):
            if change.first_chunk != self.chunk_count:
                raise ValueError(f"first_chunk must be {self.chunk_count}, got {change.first_chunk}")
            names = ("request_count", "image_count", "chunk_count", "cut_images")
            counts = {name: getattr(self, name) + getattr(change, name) for name in names}
            counts["sizes"] = tuple(dict.fromkeys((*self.sizes, *change.sizes)))[:MAX_SIZES]
            counts["windowed"] = tuple(dict.fromkeys((*self.windowed, *change.windowed)))[:MAX_SIZES]
            counts["thresholding"] = self.thresholding or change.thresholding
            counts["inverting"] = self.inverting or change.inverting
        return self.model_copy(update={**counts, "changes": (*self.changes, change)})

    @property
    def batch_shapes(self) -> tuple[BatchShape, ...]:
        """What graphs its images take, the most frequent first, as far as it lists them."""
        shapes = [BatchShape(Size.parse(size)) for size in self.sizes]
        return (*shapes, *(windowed.shape() for windowed in self.windowed))

    @property
    def long_prompts(self) -> LongPrompts:
        """What becomes of prompts that are too long, of requests that do not say; older plans cut them."""
        named = self.defaults.get("long_prompts")
        return named if named in MODES else "cut"

    @property
    def tells_of_texts(self) -> bool:
        """Whether its images say what was seen of their prompts; those of older plans' shards go on as they began."""
        return "long_prompts" in self.defaults

    @property
    def generation(self) -> int:
        """How often the run was changed; a manifest holds for one generation."""
        return len(self.changes)

    @property
    def retry(self) -> RetryOrder | None:
        """The latest order to make failed images again."""
        return next((change for change in reversed(self.changes) if isinstance(change, RetryOrder)), None)

    def images_in(self, chunk: int) -> int:
        """Return how many images a chunk holds: all as many, but for the last one and the last before an extension."""
        extensions = [change for change in self.changes if isinstance(change, Extension)]
        first, images = 0, self.image_count - sum(extension.image_count for extension in extensions)
        for extension in extensions:
            if chunk >= extension.first_chunk:
                first, images = extension.first_chunk, extension.image_count
        return min(self.images_per_chunk, images - (chunk - first) * self.images_per_chunk)

    @model_validator(mode="after")
    def _format_and_quality_go_together(self) -> RunPlan:
        try:
            _ = self.encoding
        except InputError as exc:
            raise ValueError(str(exc)) from exc
        return self

    @property
    def encoding(self) -> ImageEncoding:
        """How the run's pixels become files."""
        return ImageEncoding(self.image_format, self.quality)


class PlannedRequest(BaseModel):
    """A line of a chunk file: a request with nothing left to guess, and which of its images belong to this chunk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: int = Field(ge=0)
    """Position of the request in the run, from 0."""
    first_image: int = Field(default=0, ge=0)
    image_count: int = Field(ge=1)
    windows: int = Field(default=1, ge=1)
    """Of the text encoder that its prompts take in ``chunk``, the longer one of them."""
    request: Request

    @model_validator(mode="after")
    def _nothing_is_left_to_guess(self) -> PlannedRequest:
        for name in ("height", "width", "custom_id"):
            if getattr(self.request, name) is None:
                raise ValueError(f"{name} must be filled in before a request is planned")
        if self.request.invert is not None and not INPUT.fullmatch(self.request.invert.image):
            raise ValueError(f"invert.image must be a copy in the run's folder, got {self.request.invert.image!r:.80}")
        return self


class ChunkItem(BaseModel):
    """One image of a chunk: its key, the request it belongs to and what it is made from."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    key: str
    index: int
    request: Request
    image: int
    spec: SampleSpec


def chunk_items(plan: RunPlan, chunk: int, lines: Iterable[PlannedRequest]) -> Iterator[ChunkItem]:
    """Yield the images of a chunk in the order of their keys.

    Raises:
        ScheduleError: A request's scheduler does not fit the plan's checkpoint; a plan that was validated has none.
    """
    base = plan.model.schedule()
    position = 0
    for line in lines:
        texts: dict[str, Any] = {"long_prompts": plan.long_prompts, "windows": line.windows}
        specs = line.request.samples(base, plan.seed, line.first_image, line.image_count, **texts)
        for offset, spec in enumerate(specs):
            image = line.first_image + offset
            key = image_key(chunk, position)
            yield ChunkItem(key=key, index=line.index, request=line.request, image=image, spec=spec)
            position += 1


def image_key(chunk: int, position: int) -> str:
    """Return an image's key: chunk (5 digits or more), then position in it (4 digits), as img2dataset forms them."""
    return f"{chunk:05d}{position:04d}"


def split_into_chunks(requests: Iterable[tuple[int, Request]], images_per_chunk: int) -> Iterator[list[PlannedRequest]]:
    """Yield chunks of exactly ``images_per_chunk`` images, but for the last; requests are split where needed."""
    chunk: list[PlannedRequest] = []
    room = images_per_chunk
    for index, request in requests:
        first = 0
        while first < request.image_count:
            count = min(room, request.image_count - first)
            chunk.append(PlannedRequest(index=index, first_image=first, image_count=count, request=request))
            first, room = first + count, room - count
            if room == 0:
                yield chunk
                chunk, room = [], images_per_chunk
    if chunk:
        yield chunk
