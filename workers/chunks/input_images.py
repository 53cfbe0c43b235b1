"""The pictures that a run inverts, read from its folder when they are about to be sampled."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image

from ddim_core.contracts.kinds import INPUT
from ddim_core.contracts.sample import SampleSpec
from ddim_core.contracts.start import Picture
from ddim_core.errors import SampleError

_FORMATS = ("PNG", "JPEG", "WEBP")
"""Those that a run keeps pictures in; Pillow knows many more, and so do those who look for holes in it."""


def with_picture(spec: SampleSpec, read: Callable[[str], bytes]) -> SampleSpec:
    """Return the spec with the pixels of the picture that it begins with, if it does.

    Args:
        spec: What is about to be sampled.
        read: Returns a file of the run's folder.

    Raises:
        SampleError: The picture is gone, another one, or none.
        StorageError: The store failed.
    """
    if not isinstance(spec.start, Picture):
        return spec
    source = spec.start.source
    if not INPUT.fullmatch(source):  # a row or a chunk file that was tampered with shall name no other file
        raise SampleError(f"a picture must lie in inputs/ of its run, got {source!r:.80}")
    try:
        data = read(source)
    except FileNotFoundError:
        raise SampleError(f"the picture {source} must be in the run's folder, got nothing") from None
    if hashlib.sha256(data).hexdigest() not in source:
        raise SampleError(f"the picture {source} must have the sha256 of its name, got another one")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image, spec)
            return replace(spec, start=Picture(source, np.asarray(image.convert("RGB"))))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise SampleError(f"the picture {source} must be one, got: {exc}") from exc


def _check_size(image: Image.Image, spec: SampleSpec) -> None:
    """Refuse, before it is decoded, a picture of another size than its request: it was planned with that of its own."""
    if image.size != (spec.width, spec.height):
        raise ValueError(f"{image.width} x {image.height} pixels instead of {spec.width} x {spec.height}")
