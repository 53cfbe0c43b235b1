"""Plan a run: what holds for it as a whole, and what follows from that and its requests."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from platform import python_version
from typing import Any, Literal, get_args

from ddim_core.contracts.image_encoding import ImageEncoding
from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.long_prompts import LongPrompts
from ddim_core.contracts.plan import IMAGES_PER_CHUNK_LIMIT, NAMES, NAMES_VERSION, Container, Priority, RunPlan
from ddim_core.contracts.sample import SEED_LIMIT
from ddim_core.errors import InputError
from ddim_core.version import __version__
from producer.expansion import NAME_SEPARATOR, list_fault
from producer.model import Model
from producer.spool import Spool, chunk_files
from producer.workload import Workload

Settings = Literal["recommended", "diffusers"]
"""Those that the checkpoint recommends, where it does, before those of diffusers; or the latter alone."""

_CHUNKS_WANTED = 64
"""A run is cut into this many chunks, if they are not too small then: workers hold two each, so that 32 devices have
something to do, and two devices that stop have no more than a sixteenth of the run in hand."""
_FEWEST_CHUNKS, _FULL_BATCH = 16, 16
"""A small run is cut into the first many chunks, or into more of the second many images: two of them fill a device."""
_SMALLEST_CHUNK, _LARGEST_CHUNK = 4, 1000

DEFAULT_LONG_PROMPTS: LongPrompts = "refuse"
"""Nobody is to find out from the images that the end of a prompt was never read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What holds for a run as a whole."""

    out: str
    """URL or path of the run's folder, which must not hold another run."""
    model: str = "shapes"
    variant: str | None = None
    """Of the model's weights, such as ``fp16``; None: the plain ones, or else the only variant."""
    settings: Settings = "recommended"
    """Whose settings requests have that neither give them nor are given any by ``defaults``."""
    seed: int = 0
    container: Container = "webdataset"
    encoding: ImageEncoding = field(default_factory=ImageEncoding)
    images_per_chunk: int | None = None
    """None: chosen from the number of images."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Fields of requests that do not give them."""
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What prompts may name in braces; empty: braces mean nothing."""
    priority: Priority = "normal"
    """Whose chunks workers take first."""
    results: bool = False
    """Whether the run shall end with result and error lines of the OpenAI Batch form."""
    limits: Limits = NO_LIMITS
    """What the operator of this side allows; workers may allow less."""
    name_separator: str = NAME_SEPARATOR
    """Between a line's id and the numbers of the requests that it stands for; a run that is there keeps its own."""

    @property
    def request_defaults(self) -> dict[str, Any]:
        """What its plan says of requests that do not say: the defaults, and always what becomes of long prompts."""
        return {"long_prompts": DEFAULT_LONG_PROMPTS, **self.defaults}

    def __post_init__(self) -> None:
        """Check what no request can be blamed for.

        Raises:
            InputError: A value is out of its range.
        """
        for name, choices in (("container", Container), ("priority", Priority), ("settings", Settings)):
            if getattr(self, name) not in get_args(choices):
                raise InputError(f"{name} must be one of {', '.join(get_args(choices))}, got {getattr(self, name)!r}")
        if not 0 <= self.seed < SEED_LIMIT:
            raise InputError(f"the run's seed must be from 0 to {SEED_LIMIT - 1}, got {self.seed}")
        if self.images_per_chunk is not None and not 1 <= self.images_per_chunk <= IMAGES_PER_CHUNK_LIMIT:
            raise InputError(
                f"images per chunk must be from 1 to {IMAGES_PER_CHUNK_LIMIT}, got {self.images_per_chunk}"
            )
        for name, texts in self.lists.items():
            if rule := list_fault(name, texts):
                raise InputError(f"the list {name} {rule}")


def default_images_per_chunk(image_count: int) -> int:
    """Return how many images a chunk holds if nobody says, from 4 to 1000; the more, the larger the run."""
    enough = min(-(-image_count // _FEWEST_CHUNKS), _FULL_BATCH)
    return min(max(-(-image_count // _CHUNKS_WANTED), enough, _SMALLEST_CHUNK), _LARGEST_CHUNK)


def images_per_chunk_of(options: RunOptions, workload: Workload) -> int:
    """Return how many images each chunk of a run holds."""
    return options.images_per_chunk or default_images_per_chunk(workload.images)


def plan_run(spool: Spool, model: Model, options: RunOptions) -> RunPlan:
    """Return the plan of a run of these requests; reads them once, for the digest."""
    images_per_chunk = images_per_chunk_of(options, spool.workload)
    digest = hashlib.sha256()
    for data in chunk_files(spool, images_per_chunk):
        digest.update(data)
    now = datetime.now(timezone.utc)
    return RunPlan(
        run_id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
        created_at=now.isoformat(timespec="seconds"),
        model=model.ref(),
        container=options.container,
        image_format=options.encoding.format,
        quality=options.encoding.quality,
        results=options.results,
        seed=options.seed,
        priority=options.priority,
        defaults=options.request_defaults,
        request_count=spool.workload.requests,
        image_count=spool.workload.images,
        chunk_count=-(-spool.workload.images // images_per_chunk),
        images_per_chunk=images_per_chunk,
        requests_digest=f"sha256:{digest.hexdigest()}",
        sizes=spool.workload.frequent_sizes(),
        windowed=spool.workload.frequent_windowed(),
        cut_images=spool.workload.cut_images,
        thresholding=spool.workload.thresholding or model.schedule.thresholding,
        inverting=spool.workload.inverting,
        versions={
            "ddim-fleet": __version__,
            "python": python_version(),
            **({NAMES: NAMES_VERSION} if options.name_separator == NAME_SEPARATOR else {}),
        },
    )


def is_same_run(plan: RunPlan, other: RunPlan) -> bool:
    """Return whether two plans make the same files, whenever and under whatever name they were made."""
    apart = {
        "run_id",
        "created_at",
        "versions",
        "version",
        "priority",
        "defaults",
        "sizes",
        "windowed",
        "cut_images",
        "thresholding",
        "inverting",
    }
    return plan.model_dump(exclude=apart | {"model"}) == other.model_dump(exclude=apart | {"model"}) and (
        plan.model.digest == other.model.digest
    )
