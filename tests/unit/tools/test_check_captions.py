"""The checker names what was drawn, and names nothing where a person would not."""

from __future__ import annotations

import numpy as np
import pytest

from tools.check_captions import contact_sheet, held_out, read_picture, score
from tools.shapes import IMAGE_SIZE, SHAPES, ImageArray, Scene, draw


def blurred(picture: ImageArray, sigma_px: float) -> ImageArray:
    reach = int(3 * sigma_px) + 1
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma_px**2))
    kernel /= kernel.sum()
    pixels = picture.astype(np.float64)
    for axis in (0, 1):
        padding = [(reach, reach) if i == axis else (0, 0) for i in range(3)]
        padded = np.pad(pixels, padding, mode="edge")
        pixels = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    return pixels.round().astype(np.uint8)


def random_blob(seed: int, *, is_sharp: bool) -> ImageArray:
    """A red patch of random smooth outline on white, its edge sharp or soft."""
    rng = np.random.default_rng(seed)
    pixels = np.arange(IMAGE_SIZE) - IMAGE_SIZE / 2
    angle, radius = np.arctan2(pixels[:, None], pixels), np.hypot(pixels[:, None], pixels)
    outline = np.full(angle.shape, 15.0)
    for wave in (1, 2, 3):
        outline += 3.5 * np.sin(wave * angle + rng.uniform(0, 2 * np.pi))
    alpha = np.clip((outline - radius) * (1.0 if is_sharp else 0.08) + 0.5, 0, 1)[..., None]
    return (alpha * np.array([220, 35, 40]) + (1 - alpha) * 250).round().astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", ["large", "small"])
def test_every_drawn_shape_is_read_as_itself(shape: str, size: str) -> None:
    """All five attributes of a drawn picture come back from its pixels, jitter or not."""
    scene = Scene(shape, "cyan", size, "left", "brown")
    for rng in (None, np.random.default_rng(7)):
        assert all(read_picture(draw(scene, rng)).agrees(scene).values())


def test_held_out_pictures_are_read_without_a_mistake() -> None:
    """The goal of the checkpoint is a share of right readings, so the reader itself must reach 1."""
    rng, wanted = np.random.default_rng(3), held_out(24, seed=3)
    assert set(score([draw(scene, rng) for scene in wanted], wanted).values()) == {1.0}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_blurred_shape_has_no_name(shape: str) -> None:
    """A soft disc is not a circle, whatever it was before it was blurred."""
    for size, sigma_px in (("large", 6.0), ("small", 4.0)):
        picture = draw(Scene(shape, "red", size, "centre", "white"))
        assert read_picture(blurred(picture, sigma_px)).shape is None


@pytest.mark.parametrize("is_sharp", [True, False])
def test_a_random_blob_has_no_name(is_sharp: bool) -> None:
    """A smooth patch of no particular outline is none of the shapes, with a sharp edge or a soft one."""
    assert [read_picture(random_blob(seed, is_sharp=is_sharp)).shape for seed in range(8)] == [None] * 8


def test_a_slightly_soft_shape_keeps_its_name() -> None:
    """A decoder's edges are a little softer than drawn ones; the checker is strict about shapes, not about this."""
    scene = Scene("star", "blue", "large", "top", "beige")
    assert read_picture(blurred(draw(scene), 0.7)).agrees(scene)["shape"]


def test_a_picture_without_an_object_has_a_background_only() -> None:
    """An empty picture must not count as any shape, colour, size or position."""
    reading = read_picture(np.full((IMAGE_SIZE, IMAGE_SIZE, 3), 135, np.uint8))
    assert (reading.background, reading.shape, reading.colour, reading.size, reading.position) == ("grey", *[None] * 4)


def test_noise_has_no_name() -> None:
    """What an untrained model draws must score nothing for shape."""
    noise = np.random.default_rng(0).integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.uint8)
    assert read_picture(noise).shape is None


def test_a_wrong_attribute_is_counted_alone() -> None:
    """Each attribute is judged by itself, so a right star in a wrong colour still counts as a star."""
    asked = Scene("star", "red", "small", "left", "white")
    drawn = Scene("star", "green", "small", "left", "white")
    assert score([draw(drawn)], [asked]) == {
        "shape": 1.0, "colour": 0.0, "size": 1.0, "position": 1.0, "background": 1.0, "all": 0.0,
    }  # fmt: skip


def test_a_contact_sheet_holds_every_picture() -> None:
    """A last row that is not full is filled up instead of being lost."""
    sheet = contact_sheet(np.zeros((5, 4, 4, 3), np.uint8), columns=3)
    assert sheet.shape == (2 * 6, 3 * 6, 3)
    assert int((sheet == 0).all(-1).sum()) == 5 * 16
