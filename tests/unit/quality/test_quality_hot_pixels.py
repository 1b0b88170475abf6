"""Hot pixels planted in simulated raw stacks: they are found, and nothing that a microscope has imaged."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from spatialdino_core.quality.hot_pixels import hot_pixels

OFFSET, BACKGROUND, READ_NOISE = 100.0, 10.0, 1.5
NOISE = np.hypot(np.sqrt(BACKGROUND), READ_NOISE)
YX = (96, 110)


def camera(light: np.ndarray, seed: int) -> np.ndarray:
    """Photon noise, read noise and offset, uint16."""
    random = np.random.default_rng(seed)
    counts = random.poisson(light) + random.normal(OFFSET, READ_NOISE, light.shape)
    return np.rint(counts).clip(0, 65535).astype(np.uint16)


def points(
    planes: int, sigma: float, snr: float, number: int, *, through: bool = False, whole: bool = False
) -> np.ndarray:
    """Light of many points, (z, y, x); ``through``: lines along z, the same in every plane."""
    random = np.random.default_rng([planes, number])
    image = np.full((planes, *YX), BACKGROUND)
    z, y, x = (np.arange(n)[:, None] for n in image.shape)
    places = random.uniform(0, 1, (number, 3)) * image.shape
    places[:, 1:] = np.round(places[:, 1:]) if whole else places[:, 1:]
    along = np.ones((planes, number)) if through else np.exp(-((z - places[:, 0]) ** 2) / 18)
    profiles = [np.exp(-((a - places[:, k]) ** 2) / 2 / sigma**2) for a, k in ((y, 1), (x, 2))]
    brightness = snr * NOISE * random.uniform(0.7, 1.3, number)
    image += np.einsum("n,zn,yn,xn->zyx", brightness, along, *profiles)
    return image


def grid(margin: int = 3, step: int = 9) -> list[tuple[int, int]]:
    """Places far from each other."""
    return [(y, x) for y in range(margin, YX[0], step) for x in range(margin, YX[1], step)]


def found(stack: np.ndarray) -> set[tuple[int, int]]:
    return {(y, x) for y, x in hot_pixels(stack).tolist()}


def with_hot(light: np.ndarray, places: Iterable[tuple[int, int]], excess: float) -> np.ndarray:
    light = light.copy()
    for y, x in places:
        light[:, y, x] += excess
    return light


@pytest.mark.parametrize(("planes", "excess"), [(100, 3), (30, 4), (6, 8), (2, 16)])
def test_hot_pixels_are_found_at_what_their_number_of_planes_allows(planes: int, excess: float) -> None:
    """Among particles; the excess in standard deviations of the noise."""
    light = points(planes, 1.3, 4, 60)
    got = found(camera(with_hot(light, grid(), excess * NOISE), 1))
    assert len(got & set(grid())) >= 0.95 * len(grid())
    assert not got - set(grid())


def test_two_side_by_side_and_those_on_the_border_are_found() -> None:
    pairs = {(y, x) for y in (20, 50) for x in (30, 31)} | {(70, 40), (71, 40)}
    border = {(0, 30), (50, 0), (95, 60), (30, 109)}
    light = with_hot(np.full((20, *YX), BACKGROUND), pairs | border, 15 * NOISE)
    assert found(camera(light, 2)) == pairs | border


@pytest.mark.parametrize("snr", [1, 3, 7])
@pytest.mark.parametrize("sigma", [0.65, 1.3])
@pytest.mark.parametrize("planes", [2, 40])
def test_what_stands_still_in_all_planes_is_not_taken_for_hot(planes: int, sigma: float, snr: float) -> None:
    """Lines along z: the same light in every plane, thin stacks and deep ones, many over each other."""
    for seed in range(3):
        light = points(planes, sigma, snr, 250, through=True)
        assert not found(camera(light, seed))
    light = points(planes, sigma, snr, 250, through=True, whole=True)
    assert not found(camera(light, 4)) & found(camera(light, 5))


def test_noise_alone_has_no_hot_pixels() -> None:
    light = np.full((2, *YX), BACKGROUND)
    assert not any(found(camera(light, seed)) for seed in range(20))


@pytest.mark.parametrize("planes", [2, 20])
def test_noise_that_differs_over_the_image_is_none_either(planes: int) -> None:
    """A bright cell in a dark field: its noise is six times that around it."""
    light = np.full((planes, *YX), 2.0)
    light[:, 20:80, 20:60] = 400
    assert not any(found(camera(light, seed)) for seed in range(5))


def test_a_particle_in_half_of_the_planes_is_no_hot_pixel_even_if_sharper_than_light() -> None:
    light = np.full((20, *YX), BACKGROUND)
    light[:10, 40, 50] += 100 * NOISE
    assert not found(camera(light, 0))
    light[10:, 40, 50] += 100 * NOISE
    assert found(camera(light, 0)) == {(40, 50)}


def test_planes_that_hold_no_image_do_not_count() -> None:
    stack = camera(with_hot(np.full((20, *YX), BACKGROUND), [(40, 50)], 100), 0)
    stack[5:12] = 0
    assert found(stack) == {(40, 50)}
    stack[:] = 7
    assert not found(stack)
    assert not found(stack[:, :3])
