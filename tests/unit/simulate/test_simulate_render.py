"""Rendering against formulas: PSF, geometry, noise, SNR, labels."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.simulate.grid import Grid, deskewed_grid, raw_grid
from spatialdino_core.simulate.movie import Movie, simulate_movie
from spatialdino_core.simulate.parameters import (
    AcquisitionParameters,
    CameraParameters,
    MovieParameters,
    OpticsParameters,
    SceneParameters,
)
from spatialdino_core.simulate.psf import GaussianPointSpread, MeasuredPointSpread, measured_point_spread
from spatialdino_core.simulate.render import add_particles, camera_counts, label_particles, peak_photons

PSF = GaussianPointSpread(sigma_axial_um=0.3, sigma_lateral_um=0.13)
SMALL = AcquisitionParameters(planes=24, rows=40, columns=64)


def image(grid: Grid, positions: NDArray[np.float64], brightness: float = 100.0) -> NDArray[np.float32]:
    photons = np.zeros(grid.shape, np.float32)
    add_particles(photons, grid, PSF, positions, np.full(len(positions), brightness))
    return photons


def points_of(grid: Grid) -> NDArray[np.float64]:
    return np.stack([grid.plane_points(plane) for plane in range(grid.shape[0])])


def test_signal_is_the_gaussian_at_the_voxel_centres() -> None:
    centre = np.array([2.1, 2.03, 4.97])
    for grid in (raw_grid(SMALL), deskewed_grid(SMALL)):
        offset = points_of(grid) - centre
        exponent = (offset[..., 0] / 0.3) ** 2 + ((offset[..., 1] / 0.13) ** 2 + (offset[..., 2] / 0.13) ** 2)
        expected = 100 * np.exp(-exponent / 2)
        np.testing.assert_allclose(image(grid, centre[None]), expected, atol=100 * math.exp(-8) + 1e-4)


def test_same_centroid_in_um_however_sampled() -> None:
    rng = np.random.default_rng(3)
    for centre in np.array([2.5, 2.0, 7.0]) + rng.uniform(-0.4, 0.4, (20, 3)):
        for grid in (raw_grid(SMALL), deskewed_grid(SMALL)):
            photons = image(grid, centre[None])
            centroid = (photons[..., None] * points_of(grid)).sum(axis=(0, 1, 2)) / photons.sum()
            np.testing.assert_allclose(centroid, centre, atol=1e-3)


def test_raw_planes_are_deskewed_planes_displaced() -> None:
    # A step that shears by exactly 3 pixels per plane makes both grids share their points.
    step = 3 * 0.104 / math.cos(math.radians(31.5))
    acquisition = replace(SMALL, step_um=step)
    positions = np.random.default_rng(0).uniform([0, 0, 3], [4, 4, 9], (30, 3))
    raw, deskewed = image(raw_grid(acquisition), positions), image(deskewed_grid(acquisition), positions)
    for plane in range(24):
        window = deskewed[plane, :, 3 * plane : 3 * plane + 64]
        np.testing.assert_allclose(raw[plane], window, atol=100 * math.exp(-8))


def test_particles_beyond_the_border_leave_only_their_flanks() -> None:
    grid = Grid((8, 9, 10), 0.2, 0.0, 0.1)
    outside = np.array([[-0.3, 0.4, 0.5], [0.7, 50.0, 0.5], [0.7, 0.4, -9.0]])
    photons = image(grid, outside)
    np.testing.assert_allclose(photons[0, 4, 5], 100 * math.exp(-0.5), rtol=1e-5)
    np.testing.assert_allclose(photons, image(grid, outside[:1]))


def still_movie(snr: float) -> Movie:
    """Immobile particles of equal brightness on a lattice of voxel centres."""
    scene = SceneParameters(
        frames=40,
        particles=24,
        diffusion_um2_per_s=0.0,
        snr=snr,
        brightness_cv=0.0,
    )
    movie = simulate_movie(MovieParameters(seed=5, scene=scene, acquisition=SMALL))
    z, y, x = np.meshgrid([6, 16], [8, 20, 32], [30, 42, 54, 66], indexing="ij")
    voxels = np.stack([z.ravel(), y.ravel(), x.ravel()], axis=1)
    truth = movie.truth.copy()
    truth[["z", "y", "x"]] = voxels[truth["particle"] - 1]
    truth[["z_um", "y_um", "x_um"]] = truth[["z", "y", "x"]].to_numpy() * movie.deskewed.grid.voxel_um
    return replace(movie, truth=truth)


@pytest.mark.parametrize("snr", [1.5, 4.0])
def test_measured_snr_is_the_one_asked_for(snr: float) -> None:
    movie = still_movie(snr)
    z, y, x = movie.truth[movie.truth["frame"] == 0][["z", "y", "x"]].to_numpy(int).T
    peaks, empty = [], []
    for frame in range(len(movie)):
        counts = movie.deskewed_frame(frame).astype(float)
        peaks.append(counts[z, y, x])
        empty.append(counts[11, :, 10:20])
    signal = np.mean(peaks) - np.mean(empty)
    measured = signal / np.std(np.array(peaks), axis=0, ddof=1).mean()
    assert measured == pytest.approx(snr, rel=0.06)


def test_peak_photons_solves_its_definition() -> None:
    camera = CameraParameters(gain_counts_per_photon=2.0, read_noise_counts=6.0)
    peak = peak_photons(3.0, 20.0, camera)
    assert peak / math.sqrt(peak + 20.0 + 3.0**2) == pytest.approx(3.0)


def test_camera_has_poisson_and_read_noise() -> None:
    camera = CameraParameters(offset_counts=100, gain_counts_per_photon=2.0, read_noise_counts=5.0)
    counts = camera_counts(np.full((10, 200, 100), 30, np.float32), camera, np.random.default_rng(0))
    assert counts.mean() == pytest.approx(100 + 2 * 30, abs=0.15)
    assert counts.var() == pytest.approx(2**2 * 30 + 5**2 + 1 / 12, rel=0.02)


def test_camera_clips_instead_of_wrapping() -> None:
    bright = np.full((1, 4, 4), 1e6, np.float32)
    assert (camera_counts(bright, CameraParameters(), np.random.default_rng(0)) == 65535).all()
    dark = CameraParameters(offset_counts=0.0, read_noise_counts=10.0)
    assert camera_counts(0 * bright, dark, np.random.default_rng(0)).max() < 100


def test_particles_and_cell_fade_with_the_half_life() -> None:
    scene = SceneParameters(
        frames=6,
        interval_s=2.0,
        particles=5,
        diffusion_um2_per_s=0.0,
        bleaching_half_life_s=10.0,
        background_photons=7.0,
        cell_photons=20.0,
    )
    movie = simulate_movie(MovieParameters(seed=1, scene=scene, acquisition=SMALL))
    first, last = movie.raw_photons(0) - 7, movie.raw_photons(5) - 7
    np.testing.assert_allclose(last, first / 2, atol=1e-3)
    by_frame = movie.truth.groupby("frame")["brightness"].sum()
    assert by_frame[5] / by_frame[0] == pytest.approx(0.5)


def test_truth_voxels_point_at_the_brightest_voxel() -> None:
    scene = SceneParameters(frames=1, particles=1, background_photons=0.0)
    for seed in range(5):
        movie = simulate_movie(MovieParameters(seed=seed, scene=scene, acquisition=SMALL))
        photons = movie.deskewed_photons(0)
        brightest = np.unravel_index(photons.argmax(), photons.shape)
        assert np.abs(movie.truth.loc[0, ["z", "y", "x"]].to_numpy(float) - brightest).max() <= 0.5


def test_dark_particles_are_not_in_the_picture() -> None:
    scene = SceneParameters(frames=1, particles=1, background_photons=0.0)
    movie = simulate_movie(MovieParameters(scene=scene, acquisition=SMALL))
    dark = replace(movie, truth=movie.truth.assign(visible=False))
    assert movie.raw_photons(0).max() > 0
    assert dark.raw_photons(0).max() == 0
    assert dark.deskewed_labels(0).max() == 0


def test_reversed_scan_stores_planes_backwards() -> None:
    forward = simulate_movie(MovieParameters(acquisition=SMALL))
    backward = simulate_movie(MovieParameters(acquisition=replace(SMALL, scan_sign=-1)))
    pd.testing.assert_frame_equal(forward.truth, backward.truth)
    np.testing.assert_array_equal(forward.raw_frame(2), backward.raw_frame(2)[::-1])


def test_frames_repeat_exactly_in_any_order() -> None:
    parameters = MovieParameters(seed=9, scene=SceneParameters(cell_photons=10.0), acquisition=SMALL)
    once, again = simulate_movie(parameters), simulate_movie(parameters)
    later = once.raw_frame(3)
    np.testing.assert_array_equal(once.raw_frame(1), again.raw_frame(1))
    np.testing.assert_array_equal(later, again.raw_frame(3))
    assert (later != once.raw_frame(1)).any()
    assert (later != simulate_movie(replace(parameters, seed=10)).raw_frame(3)).any()


def test_labels_are_half_maximum_ellipsoids_of_the_nearest() -> None:
    grid = Grid((21, 41, 41), 0.1, 0.0, 0.05)
    centres = np.array([[1.0, 1.0, 0.9], [1.0, 1.0, 1.1], [0.2, 0.3, 0.3]])
    labels = label_particles(grid, PSF, centres, np.array([7, 8, 9]))
    distance = np.stack([(((points_of(grid) - c) / [0.3, 0.13, 0.13]) ** 2).sum(axis=-1) for c in centres])
    expected = np.where(
        distance.min(axis=0) < 2 * math.log(2), np.array([7, 8, 9])[distance.argmin(axis=0)], 0
    )
    undecided = np.isclose(distance[0], distance[1])
    np.testing.assert_array_equal(labels[~undecided], expected[~undecided])
    assert set(np.unique(labels)) == {0, 7, 8, 9}


def measured_gaussian() -> MeasuredPointSpread:
    """A camera's view of a Gaussian bead whose centre is no voxel centre."""
    z, y, x = np.ogrid[:31, :25, :27]
    bead = np.exp(
        -(((z - 15.3) * 0.1 / 0.3) ** 2 + ((y - 12.2) ** 2 + (x - 12.6) ** 2) * (0.08 / 0.13) ** 2) / 2
    )
    return measured_point_spread((100 + 5000 * bead).astype(np.uint16), (0.1, 0.08, 0.08))


def test_measured_psf_interpolates_the_bead() -> None:
    measured = measured_gaussian()
    np.testing.assert_allclose(measured.centre, (15.3, 12.2, 12.6), atol=0.1)
    offsets = np.random.default_rng(0).uniform(-0.3, 0.3, (3, 200))
    np.testing.assert_allclose(measured(*offsets), PSF(*offsets), atol=0.05)
    assert measured(np.array([5.0]), np.zeros(1), np.zeros(1))[0] == 0


def test_measured_psf_renders_the_same_picture() -> None:
    measured, grid = measured_gaussian(), raw_grid(SMALL)
    photons = np.zeros(grid.shape, np.float32)
    centre = np.array([[2.5, 2.0, 7.0]])
    add_particles(photons, grid, measured, centre, np.array([100.0]))
    np.testing.assert_allclose(photons, image(grid, centre), atol=5)


def test_psf_without_a_bead_is_refused() -> None:
    with pytest.raises(BadInputError, match="peak"):
        measured_point_spread(np.full((5, 5, 5), 100), (0.1, 0.1, 0.1))


def test_psf_volume_needs_its_voxel_size() -> None:
    with pytest.raises(ValueError, match="belong together"):
        OpticsParameters(psf_path="psf.tif")
