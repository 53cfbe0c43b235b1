"""Measure from pixels how often pictures show what their captions say.

``python -m tools.check_captions FOLDER --sheet sheet.png`` samples held-out captions from a checkpoint and prints one
line of JSON. The measurement knows nothing of the model: it finds the background at the border, the covered part of
every pixel on the line between the two colours, and the drawn shape that overlaps it best.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tools.shapes import (
    BACKGROUNDS,
    COLOURS,
    IMAGE_SIZE,
    SHAPES,
    SIZES,
    FloatArray,
    ImageArray,
    Rgb,
    Scene,
    caption,
    coverage,
    scenes,
)

# A drawn shape reaches 0.95 or more; a blurred disc, whose edge is spread over many pixels, stays below 0.7.
LEAST_OVERLAP = 0.82
# The best shape must beat the next by this much, or the picture could be either. Drawn shapes win by 0.1 and more.
LEAST_MARGIN = 0.04
# Distance in RGB beyond which a colour has no name here; half the distance of the two nearest names is about 45.
LARGEST_COLOUR_ERROR = 45.0
# Objects differ from their background by 75 or more; less contrast than this is an empty picture.
LEAST_CONTRAST = 40.0
# Positions lie 11 to 17 pixels from the centre, so half of that tells them apart.
POSITION_LIMIT = 6.5
ATTRIBUTES = ("shape", "colour", "size", "position", "background")
BORDER = 2


@dataclass(frozen=True, slots=True)
class Reading:
    """What a picture shows; ``None`` where the pixels do not say."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    position: str | None = None
    background: str | None = None
    overlap: float = 0.0

    def agrees(self, scene: Scene) -> dict[str, bool]:
        """Return for each attribute whether it is what the scene asked for."""
        return {name: getattr(self, name) == getattr(scene, name) for name in ATTRIBUTES}


@dataclass(frozen=True, slots=True)
class _Fit:
    shape: str
    overlap: float
    centre: tuple[float, float]
    radius: float


def read_picture(picture: ImageArray) -> Reading:
    """Return what an 8-bit picture ``[64, 64, 3]`` shows."""
    pixels = picture.astype(np.float32)
    outside = _border_colour(pixels)
    background = _nearest(outside, BACKGROUNDS)
    inside = _object_colour(pixels, outside)
    if inside is None:
        return Reading(background=background)
    fits = sorted(_fit_shapes(_coverage_of(pixels, inside, outside)), key=lambda fit: -fit.overlap)
    if not fits:
        return Reading(background=background)
    best = fits[0]
    is_clear = best.overlap >= LEAST_OVERLAP and best.overlap - fits[1].overlap >= LEAST_MARGIN
    return Reading(
        shape=best.shape if is_clear else None,
        colour=_nearest(inside, COLOURS),
        size=min(SIZES, key=lambda name: abs(SIZES[name] - best.radius)),
        position=_position(best.centre),
        background=background,
        overlap=best.overlap,
    )


def _border_colour(pixels: FloatArray) -> FloatArray:
    is_border = np.ones(pixels.shape[:2], dtype=bool)
    is_border[BORDER:-BORDER, BORDER:-BORDER] = False
    return np.asarray(np.median(pixels[is_border], axis=0), dtype=np.float32)


def _object_colour(pixels: FloatArray, outside: FloatArray) -> FloatArray | None:
    distance = np.linalg.norm(pixels - outside, axis=-1)
    contrast = np.quantile(distance, 0.99)
    if contrast < LEAST_CONTRAST:
        return None
    # Pixels well inside the object: those at its edge are mixed with the background.
    return np.asarray(np.median(pixels[distance > 0.75 * contrast], axis=0), dtype=np.float32)


def _coverage_of(pixels: FloatArray, inside: FloatArray, outside: FloatArray) -> FloatArray:
    """Return how far each pixel lies on the way from the background's colour to the object's, in [0, 1]."""
    axis = inside - outside
    share = (pixels - outside) @ axis / (axis @ axis)
    return np.asarray(np.clip(share, 0, 1), dtype=np.float32)


def _fit_shapes(alpha: FloatArray) -> list[_Fit]:
    rows, columns = np.nonzero(alpha.max(1) > 0.5)[0], np.nonzero(alpha.max(0) > 0.5)[0]
    if not len(rows):
        return []
    centre = ((columns[0] + columns[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2)
    radius = max(np.ptp(rows) + 1, np.ptp(columns) + 1) / 2
    return [_fit(shape, alpha, (float(centre[0]), float(centre[1])), float(radius)) for shape in SHAPES]


def _fit(shape: str, alpha: FloatArray, centre: tuple[float, float], radius: float) -> _Fit:
    """Return the best overlap of one shape, searched around the bounding box, first coarsely and then finely."""
    best = _Fit(shape, 0.0, centre, radius)
    for reach in (2.0, 0.7):
        best = _search(best, alpha, np.linspace(-reach, reach, 5, dtype=np.float32))
    return best


def _search(start: _Fit, alpha: FloatArray, steps: FloatArray) -> _Fit:
    dx, dy, dr = (grid.reshape(-1, 1, 1) for grid in np.meshgrid(steps, steps, steps, indexing="ij"))
    x, y = start.centre[0] + dx, start.centre[1] + dy
    radius = np.maximum(start.radius + dr, 2.0)
    drawn = coverage(start.shape, (x, y), radius, alpha.shape[0])
    # Intersection over union of what is covered to a degree: a soft edge costs as much as a wrong outline.
    overlap = np.minimum(drawn, alpha).sum((1, 2)) / np.maximum(drawn, alpha).sum((1, 2))
    i = int(overlap.argmax())
    centre = (float(x[i, 0, 0]), float(y[i, 0, 0]))
    return _Fit(start.shape, float(overlap[i]), centre, float(radius[i, 0, 0]))


def _nearest(colour: FloatArray, names: dict[str, Rgb]) -> str | None:
    distance = {name: float(np.linalg.norm(colour - np.asarray(rgb))) for name, rgb in names.items()}
    name = min(distance, key=distance.__getitem__)
    return name if distance[name] <= LARGEST_COLOUR_ERROR else None


def _position(centre: tuple[float, float]) -> str | None:
    dx, dy = centre[0] - IMAGE_SIZE / 2, centre[1] - IMAGE_SIZE / 2
    if abs(dx) > POSITION_LIMIT and abs(dy) > POSITION_LIMIT:
        return None  # a corner, which no caption names
    if max(abs(dx), abs(dy)) <= POSITION_LIMIT:
        return "centre"
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "bottom" if dy > 0 else "top"


def score(pictures: Iterable[ImageArray], wanted: list[Scene]) -> dict[str, float]:
    """Return the share of pictures that agree with their scene, by attribute, and in everything (``all``)."""
    agreed = [read_picture(picture).agrees(scene) for picture, scene in zip(pictures, wanted, strict=True)]
    shares = {name: float(np.mean([row[name] for row in agreed])) for name in ATTRIBUTES}
    return {**shares, "all": float(np.mean([all(row.values()) for row in agreed]))}


def contact_sheet(pictures: npt.NDArray[np.uint8], columns: int = 10) -> npt.NDArray[np.uint8]:
    """Return pictures ``[N, H, W, 3]`` side by side, row after row, with a light line between them."""
    framed = np.pad(pictures, ((0, -len(pictures) % columns), (1, 1), (1, 1), (0, 0)), constant_values=200)
    rows = framed.reshape(-1, columns, *framed.shape[1:]).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(rows.reshape(-1, columns * framed.shape[2], 3))


def sample(folder: Path, captions: list[str], options: argparse.Namespace) -> npt.NDArray[np.uint8]:
    """Return one picture ``[64, 64, 3]`` per caption from the checkpoint in ``folder``, made with PyTorch."""
    # Imported here, so that reading pictures needs neither of them.
    import torch
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(options.threads)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(options.seed)
    parts = []
    for i in range(0, len(captions), 50):
        parts.append(
            pipeline(
                captions[i : i + 50],
                num_inference_steps=options.steps,
                guidance_scale=options.guidance_scale,
                guidance_rescale=options.guidance_rescale,
                eta=options.eta,
                generator=generator,
                output_type="np",
            ).images
        )
    return np.asarray((np.concatenate(parts) * 255).round(), dtype=np.uint8)


def held_out(count: int, seed: int) -> list[Scene]:
    """Return ``count`` different held-out scenes, or all of them where there are fewer."""
    choice = scenes(held_out=True)
    order = np.random.default_rng(seed).permutation(len(choice))[:count]
    return [choice[i] for i in order]


def main(arguments: list[str] | None = None) -> None:
    """Sample held-out captions, print their score as JSON, and write a contact sheet where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="checkpoint in the format of StableDiffusionPipeline")
    parser.add_argument("--count", type=int, default=200, help="how many held-out captions")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance-scale", type=float, default=2.0)
    parser.add_argument("--guidance-rescale", type=float, default=0.7)
    parser.add_argument("--eta", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheet", type=Path, help="where to write the first hundred pictures as one PNG")
    options = parser.parse_args(arguments)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    wanted = held_out(options.count, options.seed)
    pictures = sample(options.folder, [caption(scene) for scene in wanted], options)
    if options.sheet is not None:
        Image.fromarray(contact_sheet(pictures[:100])).save(options.sheet)
    print(json.dumps({"count": len(wanted), **{k: round(v, 3) for k, v in score(pictures, wanted).items()}}))


if __name__ == "__main__":
    main()
