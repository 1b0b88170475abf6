"""The fit against noise-free truth, the Cramér–Rao bound and its own uncertainty."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.measure import boxes, localise
from spatialdino_core.segment.measure.localise import fit_spots, measure_spots
from spatialdino_core.segment.volume import Volume


def seeds(position: np.ndarray, width: float | np.ndarray = 1.0) -> Detections:
    ones = np.ones(len(position))
    return Detections.at(position, ones, width * ones)


def test_crowded_spots_on_a_slope_are_recovered_exactly(spots, psf_voxels, optics, voxel_um):
    truth = np.array([[15.2, 20.3, 20.4], [15.6, 23.6, 21.1], [13.1, 21.9, 40.7], [0.3, 5.0, 60.1]])
    ramp = 0.3 * np.arange(70) + 0.2 * np.arange(40)[:, None]
    frame = (200 + ramp + spots((30, 40, 70), truth, 50.0, psf_voxels)).astype(np.float32)
    fit = fit_spots(Volume(frame, voxel_um), seeds(np.round(truth)), optics)
    assert np.abs(fit.position - truth).max() < 0.02
    assert fit.amplitude == pytest.approx([50] * 4, rel=0.02)
    level = 200 + 0.3 * truth[:, 2] + 0.2 * truth[:, 1]
    assert fit.background == pytest.approx(level, rel=0.01)


def _bound_um(peak, background, variance, psf_voxels, voxel_um):
    """Cramér–Rao bound of z, y, x with unknown height and flat background, averaged over sub-voxel phases."""
    rng = np.random.default_rng(0)
    bounds = []
    for _ in range(10):
        axes = [np.arange(-9, 10) - phase for phase in rng.random(3) - 0.5]
        grid = np.meshgrid(*(a / s for a, s in zip(axes, psf_voxels, strict=True)), indexing="ij")
        bell = np.exp(-0.5 * sum(g**2 for g in grid))
        slopes = [peak * bell * g / s for g, s in zip(grid, psf_voxels, strict=True)]
        gradient = np.stack([bell, np.ones_like(bell), *slopes]).reshape(5, -1)
        weight = 1 / (background + variance + peak * bell).ravel()
        bounds.append(np.diag(np.linalg.inv((gradient * weight) @ gradient.T))[2:])
    return np.sqrt(np.mean(bounds, axis=0)) * voxel_um


@pytest.mark.parametrize("peak", [60.0, 25.0])
def test_error_is_near_the_bound_and_known(scene, psf_voxels, voxel_um, peak, optics):
    truth, errors, variances = [], [], []
    for seed in range(3):
        made = scene(seed, count=40, peak=peak)
        fit = fit_spots(Volume(made.frame, voxel_um), seeds(np.round(made.truth)), optics)
        truth.append(made.truth)
        errors.append((fit.position - made.truth) * voxel_um)
        variances.append(fit.variance * np.square(voxel_um))
    error = np.median(np.abs(np.concatenate(errors)), axis=0) / 0.6745
    bound = _bound_um(peak, 40, 4.1, psf_voxels, np.array(voxel_um))
    assert (error < 1.3 * bound).all(), (error, bound)
    claimed = np.sqrt(np.median(np.concatenate(variances), axis=0))
    assert claimed == pytest.approx(error, rel=0.3)


def test_invalid_voxels_do_not_pull(spots, psf_voxels, optics, voxel_um):
    truth = np.array([[15.0, 20.2, 20.3]])
    frame = (100 + spots((30, 40, 60), truth, 50.0, psf_voxels)).astype(np.float32)
    valid = np.ones((30, 1, 60), bool)
    valid[:, :, :19] = False
    frame[:, :, :19] = 0
    fit = fit_spots(Volume(frame, voxel_um, valid), seeds(np.round(truth)), optics)
    assert np.abs(fit.position - truth).max() < 0.05


def test_a_failed_fit_keeps_its_seed(psf_voxels, optics, voxel_um):
    frame = np.random.default_rng(1).normal(100, 5, (20, 30, 30)).astype(np.float32)
    frame[9:12, 14:17, 14:17] -= 60
    fit = fit_spots(Volume(frame, voxel_um), seeds(np.array([[10.0, 15.0, 15.0]])), optics)
    assert fit.position[0].tolist() == [10, 15, 15]


def test_no_seed_no_spot(psf_voxels, optics, voxel_um):
    nothing = fit_spots(Volume(np.zeros((4, 4, 4)), voxel_um), seeds(np.empty((0, 3))), optics)
    assert nothing.position.shape == nothing.sigma.shape == (0, 3)


@pytest.mark.parametrize("limit", ["none kept", "all kept"])
def test_how_many_boxes_are_held_changes_nothing(scene, psf_voxels, monkeypatch, limit, optics, voxel_um):
    made = scene(5, count=60, shape=(20, 60, 70))
    valid = np.arange(70)[None, None] > 0.7 * np.arange(20)[:, None, None]
    volume = Volume(made.frame, voxel_um, valid)
    given = seeds(np.round(made.truth), np.where(np.arange(60) % 3, 1, 1.4))
    whole = fit_spots(volume, given, optics)
    again = measure_spots(volume, whole)
    monkeypatch.setattr(boxes, "CHUNK_VOXELS", 9000)
    if limit == "none kept":
        monkeypatch.setattr(localise, "KEPT_VOXELS", 0)
    for one, other in (
        (whole, fit_spots(volume, given, optics)),
        (again, measure_spots(volume, whole)),
    ):
        for name in (field.name for field in fields(Detections)):
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name


def test_a_spot_is_measured_where_it_is(spots, fitted, psf_voxels, voxel_um):
    at = np.array([[9.3, 12.1, 14.6], [9.0, 15.0, 17.0]])
    given = replace(fitted(at, psf_voxels, 1.0), variance=np.full((2, 3), 0.25))
    frame = 80 + spots((20, 26, 30), at, 40.0, psf_voxels)
    found = measure_spots(Volume(frame.astype(np.float32), voxel_um), given)
    assert np.array_equal(found.position, at)
    assert (found.variance == 0.25).all()
    assert found.amplitude == pytest.approx([40, 40], rel=0.02)
    assert found.background == pytest.approx([80, 80], rel=0.02)
