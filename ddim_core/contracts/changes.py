"""What a run may be given after it was planned: more requests, or the order to make its failed images again.

``run.json`` is written once. Each change is an object of its own, ``changes/0001.json`` and on, and never changes
either, so that whoever has read the first few of them needs to look for the next number only.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ddim_core.contracts.lean import Lean
from ddim_core.contracts.moment import Moment
from ddim_core.contracts.sample import MAX_SIZES, BatchShape, Size, SizeName


class WindowedSize(BaseModel):
    """A size of which images have prompts of more than one window of the text encoder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: SizeName
    windows: int = Field(ge=2)

    def shape(self) -> BatchShape:
        """Return what graphs it takes."""
        return BatchShape(Size.parse(self.size), self.windows)


class Extension(Lean):
    """More requests, in chunks after those that the run had."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    added_later: ClassVar[frozenset[str]] = frozenset({"windowed", "cut_images"})

    kind: Literal["extension"] = "extension"
    version: Literal[1] = 1
    created_at: Moment
    first_chunk: int = Field(ge=1)
    """How many chunks the run had before."""
    request_count: int = Field(ge=1)
    image_count: int = Field(ge=1)
    chunk_count: int = Field(ge=1)
    requests_digest: str
    """sha256 over the new chunk files in order."""
    sizes: tuple[SizeName, ...] = Field(default=(), max_length=MAX_SIZES)
    thresholding: bool = False
    inverting: bool = False
    windowed: tuple[WindowedSize, ...] = Field(default=(), max_length=MAX_SIZES)
    cut_images: int = Field(default=0, ge=0)
    """These five as in the plan, of the new requests."""


class RetryOrder(BaseModel):
    """The order to make failed images again; it takes the place of any earlier one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["retry"] = "retry"
    version: Literal[1] = 1
    created_at: Moment
    name: str = Field(pattern=r"^[0-9a-f]{8,32}$")
    """Of its list, ``retries/NAME.json``, which was written before the order."""
    images: int = Field(ge=1)
    """Failed rows."""
    chunks: int = Field(ge=1)
    """Chunks that hold them."""


Change: TypeAlias = Annotated[Extension | RetryOrder, Field(discriminator="kind")]
CHANGE: TypeAdapter[Extension | RetryOrder] = TypeAdapter(Change)


class RetryList(BaseModel):
    """``retries/NAME.json``: which chunks have failed rows to be made again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    parts: dict[int, str]
    """Chunk -> sha256 of the part with the failed rows. A part with another one has been made again since."""
