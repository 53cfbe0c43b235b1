"""Makes a few images again from their rows: ``python -m workers.replay`` with a ``ReplayOrder`` on standard input.

The producer starts it to verify a run or to have an image back, and it ends when that is done. It needs no Redis, reads
nothing of the run, and writes the images and their new rows into the order's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, replace
from pathlib import Path

from ddim_core.broker_url import secrets_of
from ddim_core.contracts.plan import ModelRef
from ddim_core.contracts.record import FAILED, SUCCESS, Record, encoding_of, spec_of
from ddim_core.contracts.replay import COMPLAINT, REPLAYED, ReplayOrder
from ddim_core.contracts.sample import SampledImage, Sampler, Size
from ddim_core.errors import FleetError, InputError, SampleError, code_of
from workers.chunks.encode import encode_image, encode_latents
from workers.chunks.input_images import with_picture
from workers.chunks.records import versions_json
from workers.devices.choose import choose_devices
from workers.logs import set_up_logging
from workers.samplers.loading import make_finder
from workers.samplers.samplers import LoadedSampler, SamplerFacts
from workers.settings import Device, SamplerSettings

_IMAGES_AT_HAND = 64
"""Submitted and not yet written: enough to fill any batch, few enough to hold."""


def replayed(order: ReplayOrder, device: Device) -> Iterator[Record]:
    """Make the images of all rows, each with its own batch sizes; yield their rows as they turned out here.

    Raises:
        CheckpointError: A row's checkpoint is not here.
        HostError: This host cannot sample on the device.
        DeviceError: The device failed.
    """
    groups: dict[tuple[str, str, int, int], list[Record]] = defaultdict(list)
    for row in order.rows:
        groups[row.model, row.model_digest, row.slots, row.decode_batch].append(row)
    for (name, digest, slots, decode_batch), rows in groups.items():
        sizes = tuple(sorted({str(Size(row.height, row.width)) for row in rows}))
        settings = SamplerSettings(
            device=device, models=order.models, slots=slots, decode_batch=decode_batch, sizes=sizes
        )
        loaded = make_finder(settings)(ModelRef(name=name, digest=digest, scheduler={}))()
        try:
            yield from make_again(loaded, rows, Path(order.folder))
        finally:
            loaded.sampler.close(drain=False)


def make_again(loaded: LoadedSampler, rows: Iterable[Record], folder: Path) -> Iterator[Record]:
    """Make the images of these rows with a sampler; yield their new rows, whose images lie in the folder by then.

    Raises:
        DeviceError: The device failed; an image that fails alone is a failed row.
    """
    at_hand: deque[tuple[Record, Future[SampledImage]]] = deque()
    for row in rows:
        at_hand.append((_as_made_by(loaded.facts, row), _submit(loaded.sampler, row, folder)))
        if len(at_hand) >= _IMAGES_AT_HAND:
            yield _finished(*at_hand.popleft(), folder)
    while at_hand:
        yield _finished(*at_hand.popleft(), folder)


def _submit(sampler: Sampler, row: Record, folder: Path) -> Future[SampledImage]:
    try:
        return sampler.submit(with_picture(spec_of(row), lambda source: (folder / source).read_bytes()))
    except (InputError, SampleError) as exc:
        refused: Future[SampledImage] = Future()
        refused.set_exception(exc)
        return refused


def _as_made_by(facts: SamplerFacts, row: Record) -> Record:
    return replace(
        row,
        attempts=1,
        device_kind=facts.device_kind,
        device=facts.device,
        slots=facts.slots,
        decode_batch=facts.decode_batch,
        dtype=facts.dtype,
        cpu_threads=facts.cpu_threads,
        worker=f"replay/{os.getpid()}",
        versions=versions_json(facts.versions, encoding_of(row).format),
    )


def _finished(row: Record, sampled: Future[SampledImage], folder: Path) -> Record:
    try:
        image = sampled.result()
        data = encode_image(image.pixels, encoding_of(row))
    except (SampleError, InputError) as exc:
        nothing = replace(row, path=None, size_bytes=None, sha256=None, seconds=0.0)
        kind, code = type(exc).__name__, code_of(exc)
        return replace(nothing, status=FAILED, error_code=code, error_class=kind, error_message=str(exc))
    path = folder / f"{row.key}.{row.format}"
    path.write_bytes(data)
    latents = None if image.latents is None else hashlib.sha256(encode_latents(image.latents)).hexdigest()
    return replace(
        row,
        latents_sha256=latents,
        status=SUCCESS,
        error_code=None,
        error_class=None,
        error_message=None,
        path=path.name,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        slots=image.slots,
        decode_batch=image.decode_batch,
        seconds=image.seconds,
    )


def main() -> int:
    """Make what standard input asks for; return the process's exit code, that of the error if there was one."""
    try:
        order = ReplayOrder.model_validate_json(sys.stdin.buffer.read())
        device = choose_devices(order.devices)[0]
        os.environ.update(device.environment)  # before MindSpore is imported, which the sampler's own thread does
        if device.cores:
            os.sched_setaffinity(0, device.cores)
        set_up_logging("WARNING", device.label, secrets_of(os.environ))
        with (Path(order.folder) / REPLAYED).open("x", encoding="utf-8") as rows:
            for row in replayed(order, device):
                rows.write(json.dumps(asdict(row)) + "\n")
        return 0
    except FleetError as exc:
        print(f"{COMPLAINT}{exc}", file=sys.stderr)  # noqa: T201 - the command's own output
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
