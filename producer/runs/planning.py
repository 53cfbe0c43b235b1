"""Plan a run: what holds for it as a whole, and what follows from that and its requests."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timezone
from platform import python_version

from ddim_core.contracts.plan import NAMES, NAMES_VERSION, RunPlan
from ddim_core.version import __version__
from producer.requests.expansion import NAME_SEPARATOR
from producer.requests.model import Model
from producer.requests.spool import Spool, chunk_files
from producer.requests.workload import Workload
from producer.runs.options import RunOptions

_CHUNKS_WANTED = 64
"""A run is cut into this many chunks, if they are not too small then: workers hold two each, so that 32 devices have
something to do, and two devices that stop have no more than a sixteenth of the run in hand."""
_FEWEST_CHUNKS, _FULL_BATCH = 16, 16
"""A small run is cut into the first many chunks, or into more of the second many images: two of them fill a device."""
_SMALLEST_CHUNK, _LARGEST_CHUNK = 4, 1000


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
