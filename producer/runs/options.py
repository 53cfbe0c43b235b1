"""What holds for a run as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ddim_core.contracts.image_encoding import ImageEncoding
from ddim_core.contracts.limits import NO_LIMITS, Limits
from ddim_core.contracts.long_prompts import LongPrompts
from ddim_core.contracts.plan import IMAGES_PER_CHUNK_LIMIT, Container, Priority
from ddim_core.contracts.sample import SEED_LIMIT
from ddim_core.errors import InputError
from producer.requests.expansion import NAME_SEPARATOR, list_fault

Settings = Literal["recommended", "diffusers"]
"""Those that the checkpoint recommends, where it does, before those of diffusers; or the latter alone."""


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
