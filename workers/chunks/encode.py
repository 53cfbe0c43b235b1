"""Pixels to bytes: images and WebDataset shards that come out the same byte for byte when they are made again."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, features
from PIL import __version__ as pillow_version

from ddim_core.contracts.image_encoding import ImageEncoding, ImageFormat
from ddim_core.contracts.record import Record, caption_of, metadata_text
from ddim_core.errors import SampleError

# All that encoders can be told is fixed, so that the same pixels are the same file.
_PNG = {"compress_level": 6}  # zlib's balance of time and size
_JPEG = {"subsampling": "4:2:0", "optimize": False, "progressive": False}
_WEBP = {"method": 4}
_LOSSLESS_WEBP = {**_WEBP, "lossless": True, "exact": True, "quality": 75}  # here quality means effort

_LIBRARIES: dict[ImageFormat, tuple[str, str]] = {
    "png": ("zlib", "zlib"),
    "jpg": ("libjpeg_turbo", "libjpeg-turbo"),
    "webp": ("webp", "libwebp"),
}
"""What Pillow encodes with: its name there, and its own."""

_SAMPLE_FIELDS = (
    "key",
    "custom_id",
    "request_index",
    "image",
    "prompt",
    "negative_prompt",
    "kind",
    "frame",
    "frames",
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
_CLASS_FIELDS = ("class_label",)
_TEXT_FIELDS = ("prompt_tokens", "negative_prompt_tokens", "long_prompts", "windows")


@dataclass(frozen=True, slots=True)
class ShardSample:
    """What goes into a shard for one image."""

    record: Record
    image: bytes


def encode_image(pixels: npt.NDArray[np.uint8], encoding: ImageEncoding) -> bytes:
    """Return RGB pixels, shape [height, width, 3], as a file without any metadata.

    Raises:
        SampleError: The format has no room for so large an image.
    """
    sink = io.BytesIO()
    image = Image.fromarray(pixels)
    try:
        if encoding.format == "png":
            image.save(sink, "PNG", **_PNG)
        elif encoding.format == "jpg":
            image.save(sink, "JPEG", quality=encoding.quality, **_JPEG)
        elif encoding.quality is None:
            image.save(sink, "WEBP", **_LOSSLESS_WEBP)
        else:
            image.save(sink, "WEBP", quality=encoding.quality, **_WEBP)
    except (OSError, ValueError) as exc:
        raise SampleError(f"{image.width} x {image.height} pixels could not become {encoding.format}: {exc}") from exc
    return sink.getvalue()


def encode_latents(latents: npt.NDArray[np.float32]) -> bytes:
    """Return latents [C, h, w] as a file that ``numpy.load`` reads."""
    sink = io.BytesIO()
    np.save(sink, latents, allow_pickle=False)
    return sink.getvalue()


def encoder_versions(image_format: ImageFormat) -> dict[str, str]:
    """Return what the bytes of an image depend on besides its pixels and encoding."""
    name, own_name = _LIBRARIES[image_format]
    return {"pillow": pillow_version, own_name: features.version(name) or "unknown"}


def encode_shard(samples: Iterable[ShardSample], *, tells_of_texts: bool = True) -> bytes:
    """Return a tar file with three adjacent members a sample: the image, ``key.txt`` (its caption) and ``key.json``.

    The caption is what the model saw of the prompt. ``tells_of_texts``: as for ``encode_sample_json``.
    """
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            record = sample.record
            _add(tar, f"{record.key}.{record.format}", sample.image)
            _add(tar, f"{record.key}.txt", caption_of(record).encode())
            _add(tar, f"{record.key}.json", encode_sample_json(record, tells_of_texts=tells_of_texts))
    return sink.getvalue()


def encode_sample_json(record: Record, *, tells_of_texts: bool = True) -> bytes:
    """Return what a shard says of an image: the same keys with the same types in every sample, and never null.

    A model draws classes or it does not, so either all samples of a run have a class label or none. It is the same with
    what was seen of the prompts, which a run of an earlier version never tells of.

    Who made it, when and how fast is left to the manifest part, so that another worker writes the same shard.
    """
    names = _SAMPLE_FIELDS if record.class_label is None else (*_SAMPLE_FIELDS, *_CLASS_FIELDS)
    fields = {name: getattr(record, name) for name in names} | {"metadata": metadata_text(record.metadata)}
    if tells_of_texts and record.prompt_tokens is not None:
        fields |= {name: getattr(record, name) for name in _TEXT_FIELDS}
        for name in ("prompt", "negative_prompt"):
            used = getattr(record, f"{name}_used")
            fields[f"{name}_used"] = getattr(record, name) if used is None else used
    return json.dumps(fields, ensure_ascii=False).encode()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # its defaults are fixed: mtime 0, uid 0, gid 0, mode 0644, no names
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
