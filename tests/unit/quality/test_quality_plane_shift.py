"""The shift between planes: points by formula, noise, patterns of the camera, borders, clipped light."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality import plane_correlation
from spatialdino_core.quality.geometry_check import LEAST_PROMINENCE
from spatialdino_core.quality.plane_correlation import added, plane_correlations
from spatialdino_core.quality.plane_shift import PlaneShift, plane_shift
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters

SHAPE = (40, 80, 96)
OPTICS = OpticsParameters()
GEOMETRY = ScanGeometry(scan="stage", angle_deg=31.5, step_um=0.4, pixel_um=0.104)
SPACING_UM = 0.4 * np.sin(np.radians(31.5))


def points(
    shift: tuple[float, float],
    number: int = 60,
    peak: float = 30,
    shape: tuple[int, ...] = SHAPE,
    seed: int = 0,
) -> np.ndarray:
    """Light of points, each plane showing them (y, x) pixels further on than the one before."""
    rng, light = np.random.default_rng(seed), np.zeros(shape)
    z, y, x = (np.arange(n) for n in shape)
    sigma = OPTICS.sigma_lateral_um / GEOMETRY.pixel_um
    for a, b, c in rng.uniform([2, 4, 4], [n - 4 for n in shape], (number, 3)):
        depth = np.exp(-((SPACING_UM * (z - a) / OPTICS.sigma_axial_um) ** 2) / 2)
        rows, columns = (
            np.exp(-((n - middle - moved * (z[:, None] - a)) ** 2) / (2 * sigma**2))
            for n, middle, moved in ((y, b, shift[0]), (x, c, shift[1]))
        )
        light += peak * (depth[:, None] * rows)[:, :, None] * columns[:, None]
    return light


def photographed(light: np.ndarray, seed: int = 0) -> np.ndarray:
    return (100 + np.random.default_rng(seed).poisson(light + 10)).astype(np.uint16)


def shift_of(stacks: Sequence[np.ndarray], **how: Any) -> PlaneShift | None:
    looks = [plane_correlations(frame, stack, GEOMETRY, OPTICS, **how) for frame, stack in enumerate(stacks)]
    together = functools.reduce(added, looks)
    return None if together is None else plane_shift(together)


def says_nothing(found: PlaneShift | None) -> bool:
    return found is None or found.prominence < LEAST_PROMINENCE


@pytest.mark.parametrize(
    "shift", [(0.0, -3.28), (0.0, 2.4), (-1.7, 0.0), (3.05, 0.0), (0.0, 0.0), (-0.4, 1.3)]
)
def test_shift_of_points_below_a_pixel(shift: tuple[float, float]) -> None:
    found = shift_of([photographed(points(shift))])
    assert found is not None
    assert np.allclose(found.pixels, shift, atol=0.1)
    assert np.all(np.abs(found.pixels - shift) < 5 * np.hypot(found.error, 0.01))
    assert found.error.max() < 0.1
    assert found.prominence > 3 * LEAST_PROMINENCE


def test_error_is_that_of_repetition() -> None:
    """The jackknife's against the scatter of scenes that differ in everything but the shift."""
    found = [shift_of([photographed(points((0, -3), 25, 20, seed=seed), seed)]) for seed in range(12)]
    seen = [one for one in found if one is not None]
    scatter = np.std([one.pixels - (0, -3) for one in seen], axis=0)
    mean = np.sqrt(np.mean([one.error**2 for one in seen], axis=0))
    assert len(seen) == 12
    assert np.all(mean > 0.5 * scatter)
    assert np.all(mean < 3 * scatter)


def test_frames_add_up() -> None:
    frames = [photographed(points((0, -3), 40, 5.5, seed=seed), seed) for seed in range(6)]
    alone = [shift_of([frame]) for frame in frames]
    together = shift_of(frames)
    assert together is not None
    assert together.prominence > max(one.prominence for one in alone if one is not None)
    assert np.allclose(together.pixels, (0, -3), atol=0.3)
    assert added(None, None) is None


@pytest.mark.parametrize("kind", ["noise", "fixed pattern", "stripes", "hot pixels"])
def test_noise_and_what_stands_still_on_the_camera_say_nothing(kind: str) -> None:
    rng = np.random.default_rng(1)
    pattern = {
        "noise": np.zeros(SHAPE[1:]),
        "fixed pattern": rng.gamma(2, 5, SHAPE[1:]),
        "stripes": np.broadcast_to(10 * rng.random(SHAPE[2]), SHAPE[1:]),
        "hot pixels": 500.0 * (rng.random(SHAPE[1:]) < 0.003),
    }[kind]
    for seed in range(4):
        assert says_nothing(shift_of([photographed(pattern + np.zeros(SHAPE), seed)]))


def test_a_fixed_pattern_does_not_hide_what_moves() -> None:
    pattern = np.random.default_rng(1).gamma(2, 5, SHAPE[1:])
    found = shift_of([photographed(points((0, -3)) + pattern)])
    assert found is not None
    assert np.allclose(found.pixels, (0, -3), atol=0.15)


def test_one_bright_clipped_thing_does_not_decide() -> None:
    """Debris beside points, cut off at the top of the camera's range and drifting the other way."""
    light = points((0, -3), 80) + points((1.5, 2), 1, 1e6)
    found = shift_of([np.minimum(photographed(light), 4095)])
    assert found is not None
    assert np.allclose(found.pixels, (0, -3), atol=0.2)


def test_borders_without_data_do_not_move() -> None:
    """An oblique border that another program filled, whose edge moves as planes of a deskewed stack do."""
    columns = np.arange(SHAPE[2])[None, None]
    no_data = np.broadcast_to(columns < 60 - 2 * np.arange(SHAPE[0])[:, None, None], SHAPE)
    stack = np.where(no_data, 400, photographed(np.zeros(SHAPE))).astype(np.uint16)
    assert says_nothing(shift_of([stack], no_data=no_data))
    bare = shift_of([stack])
    assert bare is not None
    assert bare.prominence > LEAST_PROMINENCE
    stack = np.where(no_data, 400, photographed(points((0, 3)))).astype(np.uint16)
    found = shift_of([stack], no_data=no_data)
    assert found is not None
    assert np.allclose(found.pixels, (0, 3), atol=0.15)


def test_a_cell_whose_border_stands_still_widens_the_error() -> None:
    """Among dim particles its border and texture pull the shift towards none, and the parts do not agree."""
    movie = simulate_movie(
        MovieParameters(
            acquisition=AcquisitionParameters(angle_deg=31.5, step_um=0.4, planes=40),
            scene=SceneParameters(frames=1, snr=1.5, particles=30, cell_photons=30),
            seed=3,
        )
    )
    found = shift_of([movie.raw_frame(0)])
    if found is not None:
        off = found.pixels[1] + GEOMETRY.shear_voxels
        assert abs(off) < 4 * np.hypot(found.error, found.spread)[1] or says_nothing(found)
        assert np.hypot(found.error, found.spread)[1] > 0.2


def test_few_planes_and_small_frames_do_not_tell() -> None:
    stack = photographed(points((0, -3)))
    assert plane_correlations(0, stack[:16], GEOMETRY, OPTICS) is None
    assert plane_correlations(0, stack[:17], GEOMETRY, OPTICS) is not None
    assert plane_correlations(0, stack[:, :48], GEOMETRY, OPTICS) is None
    far_apart = ScanGeometry(scan="none", step_um=0.8, pixel_um=0.104)
    assert plane_correlations(0, stack, far_apart, OPTICS) is None
    assert says_nothing(shift_of([np.full(SHAPE, 100, np.uint16)]))


def test_of_large_frames_tiles_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles lie in the frame, differ from frame to frame, and measure the same."""
    shape = (30, 200, 300)
    monkeypatch.setattr(plane_correlation, "LOOK_VOXELS", 30 * 128 * 128 * 2)
    seen = np.zeros(shape[1:], int)
    for frame in range(12):
        tiles = plane_correlation._tiles(frame, shape)
        assert len(tiles) == 2
        for rows, columns in tiles:
            assert seen[rows, columns].shape == (128, 128)
            seen[rows, columns] += 1
    assert (seen > 0).mean() > 0.9
    found = shift_of([photographed(points((0, -3), 150, shape=shape))])
    assert found is not None
    assert np.allclose(found.pixels, (0, -3), atol=0.15)
