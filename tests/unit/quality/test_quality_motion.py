"""Rigid shifts, known to fractions of a pixel, of scenes that are drawn anew at the shifted place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialdino_core.quality.motion import motion_image, rigid_shift

SHAPE = (14, 96, 128)


def frame(
    places: np.ndarray,
    shift: tuple[float, float] = (0.0, 0.0),
    *,
    noise: float = 4.0,
    seed: int = 0,
    height: float = 60.0,
    hot: np.ndarray | None = None,
) -> np.ndarray:
    """Gaussian spots at places (z, y, x) plus a shift (y, x), evaluated at the voxels, with camera noise."""
    axes = [
        np.exp(-((np.arange(n)[None] - places[:, k, None] - moved) ** 2) / 2 / 1.4**2)
        for k, (n, moved) in enumerate(zip(SHAPE, (0.0, *shift), strict=True))
    ]
    image = 100 + height * np.einsum("nz,ny,nx->zyx", *axes)
    image += np.random.default_rng(seed).normal(0, noise, SHAPE)
    return np.rint(image + (0 if hot is None else hot)).clip(0, 65535).astype(np.uint16)


def places(number: int, seed: int = 0) -> np.ndarray:
    """Also outside the frame, from where a shift brings them in."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(a, b, number) for a, b in ((0, 14), (-20, 116), (-20, 148))], axis=1)


@given(y=st.floats(-15, 15), x=st.floats(-15, 15), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_known_shift_is_found_to_a_fraction_of_a_pixel(y: float, x: float, seed: int) -> None:
    scene = places(80, seed)
    found = rigid_shift(
        motion_image(frame(scene, seed=seed)), motion_image(frame(scene, (y, x), seed=seed + 1))
    )
    assert found is not None
    assert (found.y_pixels, found.x_pixels) == pytest.approx((y, x), abs=0.25)
    assert found.length_um(0.104) == pytest.approx(0.104 * np.hypot(y, x), abs=0.104 * 0.36)


def test_most_shifts_are_found_to_a_tenth_of_a_pixel() -> None:
    rng = np.random.default_rng(1)
    errors = []
    for seed in range(12):
        shift = tuple(rng.uniform(-6, 6, 2))
        scene = places(80, seed)
        found = rigid_shift(
            motion_image(frame(scene, seed=seed)), motion_image(frame(scene, shift, seed=seed + 99))
        )
        assert found is not None
        errors.append(np.hypot(found.y_pixels - shift[0], found.x_pixels - shift[1]))
    assert np.median(errors) < 0.1


def test_hot_pixels_do_not_hold_the_sample_in_place() -> None:
    hot = 400.0 * (np.random.default_rng(5).random(SHAPE[1:]) < 0.003)
    scene = places(80)
    before, after = frame(scene, hot=hot), frame(scene, (4.3, -7.6), seed=1, hot=hot)
    found = rigid_shift(motion_image(before), motion_image(after))
    assert found is not None
    assert (found.y_pixels, found.x_pixels) == pytest.approx((4.3, -7.6), abs=0.25)


def test_particles_that_wander_while_the_sample_rests_are_no_shift() -> None:
    scene = places(80)
    wandered = scene + np.random.default_rng(2).normal(0, 1.0, scene.shape)
    found = rigid_shift(motion_image(frame(scene)), motion_image(frame(wandered, seed=1)))
    assert found is not None
    assert np.hypot(found.y_pixels, found.x_pixels) < 0.6


@pytest.mark.parametrize("number", [12, 60, 300])
def test_unrelated_frames_have_no_shift(number: int) -> None:
    for seed in range(8):
        before, after = frame(places(number, seed)), frame(places(number, seed + 50), seed=1)
        assert rigid_shift(motion_image(before), motion_image(after)) is None


def test_frames_without_content_have_no_shift() -> None:
    noise = [motion_image(frame(places(1), height=0.0, seed=seed)) for seed in (0, 1)]
    assert rigid_shift(*noise) is None
    constant = motion_image(np.full(SHAPE, 100, np.uint16))
    assert rigid_shift(constant, constant) is None
    assert rigid_shift(noise[0], constant) is None
    for shape in ((1, 1, 1), (3, 2, 5), (1, 8, 1)):
        tiny = motion_image(np.arange(np.prod(shape)).reshape(shape).astype(np.uint16))
        found = rigid_shift(tiny, tiny)
        assert found is None or found.y_pixels == found.x_pixels == 0


def test_counts_of_any_type_give_the_same_image() -> None:
    stack = frame(places(40))
    for dtype in (np.float32, np.int32):
        assert np.array_equal(motion_image(stack), motion_image(stack.astype(dtype)))
    small = (stack // 2).astype(np.uint8)
    assert np.array_equal(motion_image(small), motion_image(small.astype(np.uint16)))
