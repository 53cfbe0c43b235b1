"""How pixels become a file: in which format, and how much of them a lossy one may lose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ddim_core.errors import InputError

ImageFormat = Literal["png", "jpg", "webp"]
"""Each is also the ending of its files' names."""

DEFAULT_QUALITY = 95
"""Where a lossy format is asked for and no quality: a set of images to train on should not carry visible blocks."""

_MEDIA_TYPES: dict[ImageFormat, str] = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True, slots=True)
class ImageEncoding:
    """All that an encoder is told: with the same versions, the same pixels under equal values are the same file."""

    format: ImageFormat = "png"
    quality: int | None = None
    """1 to 100; None: nothing is lost."""

    def __post_init__(self) -> None:
        """Check that the format can do it.

        Raises:
            InputError: It cannot.
        """
        if self.format not in get_args(ImageFormat):
            raise InputError(f"the image format must be one of {', '.join(get_args(ImageFormat))}, got {self.format!r}")
        if self.quality is None:
            if self.format == "jpg":
                raise InputError("a quality must be given with jpg, which always loses something, got none")
            return
        if self.format == "png":
            raise InputError(f"quality must be left out with png, which loses nothing, got {self.quality}")
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality must be from 1 to 100, got {self.quality}")

    @property
    def media_type(self) -> str:
        """What others call the format, such as ``image/jpeg``."""
        return _MEDIA_TYPES[self.format]


def chosen_encoding(image_format: ImageFormat, quality: int | None = None, *, lossless: bool = False) -> ImageEncoding:
    """Return the encoding that a person asked for, with what was left out filled in.

    Raises:
        InputError: The wishes contradict each other or the format.
    """
    if lossless and quality is not None:
        raise InputError(f"quality must be left out where nothing shall be lost, got {quality} with lossless")
    if lossless and image_format == "jpg":
        raise InputError("the image format must be png or webp where nothing shall be lost, got jpg with lossless")
    if quality is None and image_format != "png" and not lossless:
        quality = DEFAULT_QUALITY
    return ImageEncoding(image_format, quality)
