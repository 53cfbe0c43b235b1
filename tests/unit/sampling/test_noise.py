"""Noise depends on (seed, image index, step) and on nothing else."""

from __future__ import annotations

import itertools

import numpy as np

from ddim_core.sampling.noise import initial_noise, slerp, step_noise

SHAPE = (4, 16, 16)


def test_the_same_key_gives_the_same_bytes_in_any_order() -> None:
    """Nothing is drawn from a shared stream."""
    keys = [(seed, image, step) for seed in (0, 1, 2**63 - 1) for image in (0, 1) for step in (0, 1, 999)]
    forwards = {key: step_noise(*key, SHAPE).tobytes() for key in keys}
    backwards = {key: step_noise(*key, SHAPE).tobytes() for key in reversed(keys)}
    assert forwards == backwards


def test_no_two_keys_share_numbers() -> None:
    """Seeds, images, steps and the initial latents have streams of their own, without any overlap."""
    streams = [initial_noise(seed, image, SHAPE) for seed, image in itertools.product((0, 1, 7), (0, 1, 7))]
    streams += [step_noise(seed, image, step, SHAPE) for seed, image, step in itertools.product((0, 1, 7), repeat=3)]
    values = np.concatenate([stream.ravel() for stream in streams])
    # 36 streams of 1024 float32 normals: chance repeats single values about a hundred times, never whole streams.
    assert len(np.unique(values)) > 0.99 * len(values)


def test_noise_is_standard_normal_float32() -> None:
    """x_T ~ N(0, I): with 2**18 values the mean is within 5 standard errors (0.002) of 0, the deviation of 1."""
    noise = initial_noise(5, 0, (4, 256, 256))
    assert noise.dtype == np.float32 and noise.shape == (4, 256, 256)
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.std()) - 1) < 0.01


def test_noise_is_pinned() -> None:
    """A NumPy that draws other numbers would silently change every image: this is where it shows."""
    assert initial_noise(0, 0, (3,)).tolist() == [0.059911035001277924, 0.015559634193778038, -1.1644384860992432]
    assert step_noise(2**63 - 1, 3, 7, (3,)).tolist() == [0.44908133149147034, -1.4504590034484863, 0.3573701083660126]


def test_slerp_goes_along_the_arc_at_an_even_pace_and_begins_and_ends_at_the_bit() -> None:
    """Each frame is as long as noise is, and as far from the one before as all others are."""
    start, end = initial_noise(3, 0, SHAPE), initial_noise(8, 0, SHAPE)
    end *= np.linalg.norm(start) / np.linalg.norm(end)  # lengths of noise differ by some percent
    frames = [slerp(start, end, i / 4) for i in range(5)]
    assert frames[0].tobytes() == start.tobytes() and frames[4].tobytes() == end.tobytes()
    unit = [frame.astype(np.float64).ravel() / np.linalg.norm(frame.astype(np.float64)) for frame in frames]
    angles = [np.arccos(a @ b) for a, b in itertools.pairwise(unit)]
    whole = np.arccos(unit[0] @ unit[-1])
    np.testing.assert_allclose(angles, whole / 4, rtol=1e-6)  # float32's rounding, over a thousand values
    lengths = [np.linalg.norm(frame) for frame in frames]
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-6)
    assert frames[2].dtype == np.float32
