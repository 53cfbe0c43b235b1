"""Pictures show what their scene says, captions are true, and the split between training and test holds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tools.shapes import (
    BACKGROUNDS,
    COLOURS,
    OFFSETS,
    POSITIONS,
    SHAPES,
    SIZES,
    Scene,
    caption,
    coverage,
    draw,
    scenes,
    training_set,
)


def test_a_caption_names_all_five_attributes() -> None:
    """Without a generator nothing is left unsaid."""
    assert caption(Scene("circle", "red", "large", "centre", "white")) == (
        "a large red circle in the centre on a white background"
    )
    assert caption(Scene("star", "blue", "small", "top", "grey")) == "a small blue star at the top on a grey background"


def test_a_shortened_caption_stays_true() -> None:
    """Only what a reader would assume is dropped: large, in the centre, on white."""
    rng = np.random.default_rng(0)
    plain = {caption(Scene("ring", "orange", "large", "centre", "white"), rng) for _ in range(400)}
    assert {"an orange ring", "a large orange ring"} <= plain
    for _ in range(50):
        words = caption(Scene("ring", "orange", "small", "left", "navy"), rng)
        assert words == "a small orange ring on the left on a navy background"


def test_words_for_objects_and_backgrounds_are_different() -> None:
    """A colour word must mean the same wherever it stands."""
    assert not set(COLOURS) & set(BACKGROUNDS)


def test_object_and_background_colours_can_be_told_apart() -> None:
    """The checker measures colours, so no object may be near its background, nor two names near each other."""
    for one, other in itertools.product(COLOURS.values(), BACKGROUNDS.values()):
        assert np.linalg.norm(np.subtract(one, other)) > 75
    for names in (COLOURS, BACKGROUNDS):
        for one, other in itertools.combinations(names.values(), 2):
            assert np.linalg.norm(np.subtract(one, other)) > 65


def test_the_split_is_a_hash_of_the_scene() -> None:
    """Training and held-out scenes never share one, and a tenth is held out on every machine alike."""
    learnt, kept = scenes(held_out=False), scenes(held_out=True)
    assert not set(learnt) & set(kept)
    assert (len(learnt), len(kept)) == (2593, 287)


def test_every_word_is_seen_in_training() -> None:
    """Held-out captions are new combinations of known words, for each pair of shape and colour too."""
    assert {(scene.shape, scene.colour) for scene in scenes(held_out=False)} == set(itertools.product(SHAPES, COLOURS))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_stays_inside_the_picture(shape: str) -> None:
    """A shape cut off by the border would be another shape; positions and radii leave room for the jitter."""
    for size, (dx, dy) in itertools.product(SIZES, POSITIONS.values()):
        centre = (48 + dx * OFFSETS[size] + 0.6 * dx, 48 + dy * OFFSETS[size] + 0.6 * dy)
        alpha = coverage(shape, centre, SIZES[size] * 1.02, size=96)
        # The softened end of a star's tip may touch the border; a thousandth of the area is nothing anybody sees.
        assert alpha[16:80, 16:80].sum() == pytest.approx(alpha.sum(), rel=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_fills_its_radius_around_its_centre(shape: str) -> None:
    """Half extent and centre of the drawing are the numbers asked for, within a tenth: the checker relies on them."""
    filled = np.nonzero(coverage(shape, (32.0, 32.0), 20.0) > 0.5)
    for pixels in filled:
        assert (pixels.min() + pixels.max() + 1) / 2 == pytest.approx(32, abs=1.0)
    assert max(np.ptp(pixels) + 1 for pixels in filled) / 2 == pytest.approx(20, rel=0.15)


def test_a_ring_has_a_hole_and_a_circle_has_none() -> None:
    """The two share their outline, so the middle is what tells them apart."""
    assert coverage("ring", (32, 32), 11)[32, 32] == 0
    assert coverage("circle", (32, 32), 11)[32, 32] == 1


def test_coverage_draws_many_at_once() -> None:
    """The checker tries hundreds of radii in one call; each must be what a single call draws."""
    radii = np.array([8.0, 12.0]).reshape(2, 1, 1)
    both = coverage("star", (30.0, 33.0), radii)
    assert both.shape == (2, 64, 64)
    # NumPy divides arrays and scalars in different precision here: the last bit of a float32 may differ.
    np.testing.assert_allclose(both[1], coverage("star", (30.0, 33.0), 12.0), atol=1e-6)


def test_the_training_set_is_the_same_again() -> None:
    """The recipe is repeatable: a seed gives the same pictures and captions, all from the training side."""
    pictures, captions = training_set(6, seed=4)
    again, captions_again = training_set(6, seed=4)
    np.testing.assert_array_equal(pictures, again)
    assert captions == captions_again
    assert pictures.shape == (6, 64, 64, 3)


def test_jitter_moves_a_picture_a_little() -> None:
    """Two drawings of a scene differ, or the model would learn by heart instead of sampling."""
    scene, rng = Scene("star", "pink", "small", "bottom", "black"), np.random.default_rng(0)
    one, other = draw(scene, rng), draw(scene, rng)
    assert 0 < np.abs(one.astype(int) - other.astype(int)).mean() < 12
