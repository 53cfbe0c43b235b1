"""Draw single shapes with NumPy and write captions that are true of them.

The small checkpoint that ships with the package learns from these pictures. Object colours and background colours are
two disjoint sets of words, so a word means the same wherever it stands in a caption: a text encoder of two layers then
has little to learn before the denoiser can use it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ImageArray = npt.NDArray[np.uint8]
Rgb = tuple[int, int, int]

IMAGE_SIZE = 64

COLOURS: dict[str, Rgb] = {
    "red": (220, 35, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 225, 50),
    "green": (40, 170, 60),
    "blue": (45, 95, 235),
    "purple": (145, 55, 190),
    "pink": (250, 130, 190),
    "cyan": (60, 215, 230),
}
BACKGROUNDS: dict[str, Rgb] = {
    "white": (250, 250, 250),
    "black": (12, 12, 12),
    "grey": (135, 135, 135),
    "beige": (225, 205, 170),
    "navy": (15, 25, 85),
    "brown": (105, 65, 35),
}
# Radius in pixels: far enough apart that a radius between them is a mistake of the model, not a matter of taste.
SIZES: dict[str, float] = {"large": 18.5, "small": 11.0}
POSITIONS: dict[str, tuple[int, int]] = {
    "centre": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
}
# How far a position lies from the centre in pixels; the shape and its jitter stay inside the picture.
OFFSETS: dict[str, float] = {"large": 11.0, "small": 17.0}
PHRASES: dict[str, tuple[str, ...]] = {
    "centre": ("in the centre", "in the center", "in the middle"),
    "left": ("on the left",),
    "right": ("on the right",),
    "top": ("at the top",),
    "bottom": ("at the bottom",),
}
# What a caption means when it does not say: dropping a word then never makes a caption false or ambiguous.
UNSAID_SIZE, UNSAID_POSITION, UNSAID_BACKGROUND = "large", "centre", "white"
HELD_OUT_ONE_IN = 10


@dataclass(frozen=True, slots=True)
class Scene:
    """What one picture shows, in the words of its caption."""

    shape: str
    colour: str
    size: str
    position: str
    background: str

    @property
    def is_held_out(self) -> bool:
        """Whether no training picture may show this combination; a hash decides, so the split never moves."""
        words = " ".join((self.shape, self.colour, self.size, self.position, self.background))
        return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") % HELD_OUT_ONE_IN == 0


def _pointed(x: FloatArray, y: FloatArray, points: int, outer: float, inner: float) -> FloatArray:
    """Distance to a star whose tips lie at ``outer`` and whose notches at ``inner``, one tip straight up."""
    half_sector = np.pi / points
    angle = np.abs((np.arctan2(x, -y) + half_sector) % (2 * half_sector) - half_sector)
    radius = np.hypot(x, y)
    # By symmetry one straight edge is left, from the tip (outer, 0) to the notch at half_sector.
    edge_x, edge_y = inner * np.cos(half_sector) - outer, inner * np.sin(half_sector)
    across = (radius * np.cos(angle) - outer) * edge_y - radius * np.sin(angle) * edge_x
    return np.asarray(across / np.hypot(edge_x, edge_y), dtype=np.float32)


def _box(x: FloatArray, y: FloatArray, half_width: float, half_height: float) -> FloatArray:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _circle(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(np.hypot(x, y) - 0.98, dtype=np.float32)


def _square(x: FloatArray, y: FloatArray) -> FloatArray:
    return _box(x, y, 0.88, 0.88)


def _triangle(x: FloatArray, y: FloatArray) -> FloatArray:
    # Moved down by a quarter of the circumradius, so that the middle of its bounding box is the position.
    return _pointed(x, y - np.float32(0.3), 3, 1.2, 0.6)


def _star(x: FloatArray, y: FloatArray) -> FloatArray:
    return _pointed(x, y - np.float32(0.11), 5, 1.14, 0.46)


def _cross(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.minimum(_box(x, y, 1.0, 0.33), _box(x, y, 0.33, 1.0))


def _ring(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.asarray(np.abs(np.hypot(x, y) - 0.78) - 0.24, dtype=np.float32)


# Each maps unit coordinates (y down) to a distance from the outline: negative inside.
SHAPES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}


def coverage(shape: str, centre: tuple[Any, Any], radius: Any, size: int = IMAGE_SIZE) -> FloatArray:
    """Return how much of each pixel a shape covers, anti-aliased over one pixel.

    Args:
        shape: A key of ``SHAPES``.
        centre: x and y in pixels, scalars or arrays that broadcast with a trailing ``[size, size]``.
        radius: Half the extent in pixels, likewise.
        size: Height and width of the picture in pixels.

    Returns:
        Values in [0, 1], shape ``[..., size, size]``.
    """
    pixels = np.arange(size, dtype=np.float32) + 0.5
    x = (pixels[None, :] - centre[0]) / radius
    y = (pixels[:, None] - centre[1]) / radius
    x, y = np.broadcast_arrays(x, y)
    distance = SHAPES[shape](np.asarray(x, np.float32), np.asarray(y, np.float32)) * radius
    return np.asarray(np.clip(0.5 - distance, 0.0, 1.0), dtype=np.float32)


def draw(scene: Scene, rng: np.random.Generator | None = None) -> ImageArray:
    """Return the picture of a scene as ``[64, 64, 3]``; with ``rng``, moved, scaled and tinted a little."""
    middle = IMAGE_SIZE / 2
    dx, dy = POSITIONS[scene.position]
    move, scale, tint = np.zeros(2), 1.0, np.zeros((2, 3))
    if rng is not None:
        move, scale, tint = rng.uniform(-0.6, 0.6, 2), rng.uniform(0.98, 1.02), rng.uniform(-3, 3, (2, 3))
    offset = OFFSETS[scene.size]
    centre = (middle + dx * offset + move[0], middle + dy * offset + move[1])
    alpha = coverage(scene.shape, centre, SIZES[scene.size] * scale)[..., None]
    inside = np.asarray(COLOURS[scene.colour]) + tint[0]
    outside = np.asarray(BACKGROUNDS[scene.background]) + tint[1]
    return np.asarray(np.clip(alpha * inside + (1 - alpha) * outside, 0, 255).round(), dtype=np.uint8)


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """Return a caption that is true of the scene; with ``rng``, what a reader would assume is sometimes left unsaid."""

    def dropped(is_default: bool) -> bool:
        return rng is not None and is_default and rng.random() < 0.3

    phrases = PHRASES[scene.position]
    phrase = phrases[0] if rng is None else phrases[rng.integers(len(phrases))]
    background = scene.background
    if background == "grey" and rng is not None and rng.random() < 0.3:
        background = "gray"
    words = [] if dropped(scene.size == UNSAID_SIZE) else [scene.size]
    words += [scene.colour, scene.shape]
    if not dropped(scene.position == UNSAID_POSITION):
        words.append(phrase)
    if not dropped(scene.background == UNSAID_BACKGROUND):
        words.append(f"on a {background} background")
    article = "an" if words[0] == "orange" else "a"
    return " ".join([article, *words])


def scenes(*, held_out: bool) -> list[Scene]:
    """Return every scene of one side of the split, in a fixed order."""
    every = itertools.product(SHAPES, COLOURS, SIZES, POSITIONS, BACKGROUNDS)
    return [scene for scene in itertools.starmap(Scene, every) if scene.is_held_out == held_out]


def training_set(count: int, seed: int) -> tuple[ImageArray, list[str]]:
    """Return ``count`` pictures ``[count, 64, 64, 3]`` and their captions, every training scene equally often."""
    rng = np.random.default_rng(seed)
    choice = scenes(held_out=False)
    order = np.concatenate([rng.permutation(len(choice)) for _ in range(-(-count // len(choice)))])[:count]
    pictures = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    for i, index in enumerate(order):
        pictures[i] = draw(choice[index], rng)
    return pictures, [caption(choice[index], rng) for index in order]
