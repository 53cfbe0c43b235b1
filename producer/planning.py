"""Plan a run: check every request, keep them in a temporary file, and cut them into chunks."""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from platform import python_version
from typing import IO, Any

from ddim_core.contracts.plan import IMAGES_PER_CHUNK_LIMIT, Container, RunPlan, split_into_chunks
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import SEED_LIMIT
from ddim_core.errors import InputError
from ddim_core.storage.run_folder import encode_chunk
from ddim_core.version import __version__
from producer.model import Model

_CHUNKS_WANTED = 16
"""A small run is cut into this many chunks, so that several workers have something to do."""
_SMALLEST_CHUNK, _LARGEST_CHUNK = 4, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What holds for a run as a whole."""

    out: str
    """URL or path of the run's folder, which must not hold another run."""
    model: str = "shapes"
    seed: int = 0
    container: Container = "webdataset"
    images_per_chunk: int | None = None
    """None: chosen from the number of images."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Fields of requests that do not give them."""

    def __post_init__(self) -> None:
        """Check what no request can be blamed for.

        Raises:
            InputError: A value is out of its range.
        """
        if not 0 <= self.seed < SEED_LIMIT:
            raise InputError(f"the run's seed must be from 0 to {SEED_LIMIT - 1}, got {self.seed}")
        if self.images_per_chunk is not None and not 1 <= self.images_per_chunk <= IMAGES_PER_CHUNK_LIMIT:
            raise InputError(
                f"images per chunk must be from 1 to {IMAGES_PER_CHUNK_LIMIT}, got {self.images_per_chunk}"
            )


def default_images_per_chunk(image_count: int) -> int:
    """Return how many images a chunk holds if nobody says: a sixteenth of the run, from 4 to 1000."""
    return min(max(-(-image_count // _CHUNKS_WANTED), _SMALLEST_CHUNK), _LARGEST_CHUNK)


@dataclass(frozen=True, slots=True)
class Spool:
    """Checked requests in a temporary file: a million of them fit on a disk, not in a memory."""

    file: IO[bytes]
    request_count: int
    image_count: int

    def requests(self) -> Iterator[tuple[int, Request]]:
        """Yield the requests with their positions, from the first, each time it is called."""
        self.file.seek(0)
        return ((index, Request.model_validate_json(line)) for index, line in enumerate(self.file))


@contextmanager
def spooled(requests: Iterable[Request]) -> Iterator[Spool]:
    """Take all requests into a temporary file, which goes when the block ends."""
    with tempfile.TemporaryFile(prefix="ddim-fleet-") as file:
        request_count = image_count = 0
        for request in requests:
            file.write(request.model_dump_json(exclude_defaults=True).encode() + b"\n")
            request_count += 1
            image_count += request.num_images_per_prompt
        yield Spool(file, request_count, image_count)


def chunk_files(spool: Spool, images_per_chunk: int) -> Iterator[bytes]:
    """Yield the run's chunk files in order."""
    return map(encode_chunk, split_into_chunks(spool.requests(), images_per_chunk))


def plan_run(spool: Spool, model: Model, options: RunOptions) -> RunPlan:
    """Return the plan of a run of these requests; reads them once, for the digest."""
    images_per_chunk = options.images_per_chunk or default_images_per_chunk(spool.image_count)
    digest = hashlib.sha256()
    for data in chunk_files(spool, images_per_chunk):
        digest.update(data)
    now = datetime.now(timezone.utc)
    return RunPlan(
        run_id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
        created_at=now.isoformat(timespec="seconds"),
        model=model.ref(),
        container=options.container,
        seed=options.seed,
        request_count=spool.request_count,
        image_count=spool.image_count,
        chunk_count=-(-spool.image_count // images_per_chunk),
        images_per_chunk=images_per_chunk,
        requests_digest=f"sha256:{digest.hexdigest()}",
        versions={"ddim-fleet": __version__, "python": python_version()},
    )


def is_same_run(plan: RunPlan, other: RunPlan) -> bool:
    """Return whether two plans make the same files, whenever and under whatever name they were made."""
    apart = {"run_id", "created_at", "versions", "version"}
    return plan.model_dump(exclude=apart | {"model"}) == other.model_dump(exclude=apart | {"model"}) and (
        plan.model.digest == other.model.digest
    )
