"""Pixels to bytes: PNG files, and WebDataset shards that come out the same byte for byte when they are made again."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ddim_core.contracts.record import Record

PNG_COMPRESSION = 6
"""Fixed, so that the same pixels are the same file; 6 is zlib's balance of time and size."""

_SAMPLE_FIELDS = (
    "key",
    "custom_id",
    "request_index",
    "image",
    "prompt",
    "negative_prompt",
    "seed",
    "image_index",
    "num_inference_steps",
    "guidance_scale",
    "guidance_rescale",
    "eta",
    "height",
    "width",
    "scheduler",
    "metadata",
    "model",
    "model_digest",
    "format",
    "size_bytes",
    "sha256",
)


@dataclass(frozen=True, slots=True)
class ShardSample:
    """What goes into a shard for one image."""

    record: Record
    image: bytes


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return RGB pixels, shape [height, width, 3], as a PNG file without any metadata."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, format="PNG", compress_level=PNG_COMPRESSION)
    return sink.getvalue()


def encode_shard(samples: Iterable[ShardSample]) -> bytes:
    """Return a tar file with three adjacent members a sample: ``key.png``, ``key.txt`` (the prompt), ``key.json``."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            record = sample.record
            _add(tar, f"{record.key}.{record.format}", sample.image)
            _add(tar, f"{record.key}.txt", record.prompt.encode())
            _add(tar, f"{record.key}.json", encode_sample_json(record))
    return sink.getvalue()


def encode_sample_json(record: Record) -> bytes:
    """Return what a shard says of an image: the same keys with the same types in every sample, and never null.

    Who made it, when and how fast is left to the manifest part, so that another worker writes the same shard.
    """
    return json.dumps({name: getattr(record, name) for name in _SAMPLE_FIELDS}, ensure_ascii=False).encode()


def encode_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    """Return the rows as JSON lines."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # its defaults are fixed: mtime 0, uid 0, gid 0, mode 0644, no names
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
