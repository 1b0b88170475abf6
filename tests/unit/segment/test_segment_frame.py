"""Whole frames against truth, default parameters, no tuning; labels against a brute-force partition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.believe.calibration import Calibration, calibrate
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.frame import segment_frame
from spatialdino_core.segment.measure.instances import label_spots
from spatialdino_core.segment.measure.objects import COLUMNS
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Volume

PARAMETERS = SegmentParameters(candidate_confidence=1.0, temporal_reach_frames=0)
"""What holds for single frames; time is the subject of test_segment_time."""


def movie(*frames: np.ndarray, voxel_um, valid=None, foreground=None) -> SegmentMovie:
    given = None if foreground is None else lambda number: foreground
    seen = range(len(frames))
    return SegmentMovie(lambda number: frames[number], seen, voxel_um, valid=valid, foreground=given)


def calibrated(*frames: np.ndarray, parameters=PARAMETERS, **about) -> Calibration:
    return calibrate(movie(*frames, **about), parameters)


def segmented(
    frame: np.ndarray, voxel_um, calibration, valid=None, foreground=None, parameters=PARAMETERS, **more
) -> tuple[np.ndarray, pd.DataFrame]:
    one = movie(frame, voxel_um=voxel_um, valid=valid, foreground=foreground)
    return segment_frame(one, 0, calibration, parameters, **more)


def _score(scene, matches, voxel_um, **settings):
    made = [scene(300 + s, **settings) for s in range(4)]
    calibration = calibrated(*(m.frame for m in made), voxel_um=voxel_um)
    hits = found = truth = 0
    errors = []
    for one in made[2:]:
        _, objects = segmented(one.frame, voxel_um, calibration)
        count, error = matches(objects[["z", "y", "x"]].to_numpy(), one.truth)
        hits, found, truth = hits + count, found + len(objects), truth + len(one.truth)
        errors.append(error)
    rmse = np.sqrt(np.mean(np.concatenate(errors) ** 2, axis=0))
    return 2 * hits / (found + truth), rmse


@pytest.mark.parametrize(
    ("peak", "f1", "rmse_um"), [(60.0, 0.95, 0.035), (22.0, 0.93, 0.08)], ids=["SNR 5", "SNR 2.5"]
)
def test_detection_and_localisation(scene, matches, voxel_um, peak, f1, rmse_um):
    score, rmse = _score(scene, matches, voxel_um, peak=peak)
    assert score >= f1
    assert np.linalg.norm(rmse) < rmse_um


def test_a_textured_cell_does_not_flood(scene, matches, voxel_um):
    made = [scene(300 + s, cell=True, peak=60.0) for s in range(5)]
    calibration = calibrated(*(m.frame for m in made), voxel_um=voxel_um)
    hits = found = truth = 0
    for one in made[2:]:
        _, objects = segmented(one.frame, voxel_um, calibration)
        count, _ = matches(objects[["z", "y", "x"]].to_numpy(), one.truth)
        hits, found, truth = hits + count, found + len(objects), truth + len(one.truth)
    assert (found - hits) / 3 < 12
    assert 2 * hits / (found + truth) > 0.85


def test_a_filament_is_not_a_row_of_particles(psf_voxels, voxel_um):
    z, y = np.arange(32)[:, None, None] - 16.3, np.arange(64)[None, :, None] - 31.6
    line = 150 * np.exp(-0.5 * ((z / psf_voxels[0]) ** 2 + (y / psf_voxels[1]) ** 2))
    light = 40 + np.broadcast_to(line, (32, 64, 160))
    frame = (np.random.default_rng(3).poisson(light) + 100).astype(np.uint16)
    calibration = calibrated(frame, voxel_um=voxel_um)
    _, objects = segmented(frame, voxel_um, calibration)
    on_line = (objects["z"] - 16.3).abs().lt(3) & (objects["y"] - 31.6).abs().lt(3)
    assert on_line.sum() <= 2


def test_fill_of_a_deskewed_frame_does_not_matter(scene, matches, voxel_um, wedge):
    made = scene(9)
    valid = np.broadcast_to(wedge, made.frame.shape)
    zero = np.where(valid, made.frame, 0).astype(np.float32)
    wild = np.where(valid, made.frame, np.nan).astype(np.float32)
    calibration = calibrated(zero, voxel_um=voxel_um, valid=wedge)
    labels, objects = segmented(zero, voxel_um, calibration, wedge)
    again, same = segmented(wild, voxel_um, calibration, wedge)
    assert np.array_equal(labels, again)
    assert objects.equals(same)
    assert not labels[~valid].any()
    inside = valid[tuple(np.round(made.truth).astype(int).T)]
    count, _ = matches(objects[["z", "y", "x"]].to_numpy(), made.truth[inside])
    assert 2 * count / (len(objects) + inside.sum()) > 0.9


def test_tiles_and_threads_change_nothing(scene, voxel_um, wedge):
    frame = scene(10).frame
    one = movie(frame, voxel_um=voxel_um, valid=wedge)
    calibration = calibrate(one, PARAMETERS)
    assert calibrate(one, PARAMETERS, threads=2) == calibration
    labels, objects = segment_frame(one, 0, calibration, PARAMETERS)
    for options in ({"tile_voxels": 700_000}, {"threads": 2}, {"threads": 3, "tile_voxels": 700_000}):
        other = segment_frame(one, 0, calibration, PARAMETERS, **options)
        assert np.array_equal(labels, other[0])
        assert objects.equals(other[1])


def test_labels_and_table_belong_together(scene, voxel_um):
    made = scene(11, count=150)
    probability = np.random.default_rng(0).random(made.frame.shape).astype(np.float32)
    calibration = calibrated(made.frame, voxel_um=voxel_um, foreground=probability)
    labels, objects = segmented(made.frame, voxel_um, calibration, foreground=probability)
    assert labels.dtype == np.uint32
    assert list(objects.columns) == list(COLUMNS)
    assert objects["label"].tolist() == list(range(1, len(objects) + 1)) == list(np.unique(labels))[1:]
    index = objects["label"].to_numpy()
    assert objects["volume_um3"].to_numpy() == pytest.approx(
        np.bincount(labels.ravel())[1:] * np.prod(voxel_um)
    )
    mean = ndimage.mean(made.frame.astype(float), labels, index) - objects["background"]
    assert objects["intensity_mean"].to_numpy() == pytest.approx(mean.to_numpy())
    assert objects["foreground"].to_numpy() == pytest.approx(
        ndimage.mean(probability, labels, index), rel=1e-5
    )
    um = objects[["z", "y", "x"]].to_numpy() * voxel_um
    assert objects[["z_um", "y_um", "x_um"]].to_numpy() == pytest.approx(um)
    assert 40 < objects["amplitude"].median() < 80
    assert 5 < objects["snr"].median() < 12


def test_labels_are_a_voronoi_partition_of_the_bright_voxels(spots, fitted, psf_voxels, voxel_um, optics):
    centres = np.array([[12.0, 20.0, 20.3], [12.3, 24.0, 20.0], [12.0, 20.0, 45.0]])
    frame = (100 + spots((24, 44, 64), centres, 80.0, psf_voxels)).astype(np.float32)
    found = fitted(centres, psf_voxels, 80.0)
    labels = label_spots(Volume(frame, voxel_um), found, optics, PARAMETERS).image()
    voxels = np.argwhere(labels)
    distance = np.linalg.norm((voxels[:, None] - centres) * voxel_um, axis=-1)
    assert np.array_equal(labels[tuple(voxels.T)], distance.argmin(axis=1) + 1)
    assert distance.min(axis=1).max() <= PARAMETERS.max_radius_um
    lone = np.sum(labels == 3) * np.prod(voxel_um)
    assert lone == pytest.approx(half_height_um3(psf_voxels * voxel_um), rel=0.15)
    for label in (1, 2, 3):
        assert ndimage.label(labels == label)[1] == 1


def half_height_um3(sigma_um):
    """Volume of the ellipsoid within which a Gaussian is above half of its height."""
    return 4 / 3 * np.pi * np.sqrt(2 * np.log(2)) ** 3 * np.prod(sigma_um)


@pytest.fixture
def centres() -> np.ndarray:
    """12 voxels apart in z and 16 in y and x."""
    grid = np.stack(np.meshgrid([12, 24], range(12, 90, 16), range(12, 90, 16), indexing="ij"), -1)
    return grid.reshape(-1, 3) + 0.3


def test_the_outline_of_a_dim_particle_is_not_that_of_the_noise_around_it(
    spots, fitted, centres, psf_voxels, voxel_um, optics
):
    found = fitted(centres, psf_voxels, 20.0)
    noise = np.random.default_rng(0).normal(0, 12, (38, 100, 100))
    frame = (100 + spots(noise.shape, centres, 20.0, psf_voxels) + noise).astype(np.float32)
    labels = label_spots(Volume(frame, voxel_um), found, optics, PARAMETERS).image()
    volumes = np.bincount(labels.ravel(), minlength=len(centres) + 1)[1:] * np.prod(voxel_um)
    expected = half_height_um3(psf_voxels * voxel_um)
    assert np.median(volumes) == pytest.approx(expected, rel=0.4)
    assert np.quantile(volumes, 0.9) < 2 * expected


def test_a_bright_particle_longer_than_the_point_it_was_fitted_with_keeps_its_shape(
    spots, fitted, centres, psf_voxels, voxel_um, optics
):
    found = fitted(centres, psf_voxels, 80.0)
    longer = psf_voxels * [1, 1, 1.8]
    frame = (100 + spots((38, 100, 100), centres, 80.0, longer)).astype(np.float32)
    labels = label_spots(Volume(frame, voxel_um), found, optics, PARAMETERS).image()
    volumes = np.bincount(labels.ravel(), minlength=len(centres) + 1)[1:] * np.prod(voxel_um)
    assert np.median(volumes) == pytest.approx(half_height_um3(longer * voxel_um), rel=0.35)


def test_frames_without_particles_or_light_give_an_empty_table(scene, voxel_um):
    calibration = calibrated(scene(0).frame, voxel_um=voxel_um)
    dark = np.full((48, 96, 230), 100, np.uint16)
    labels, objects = segmented(dark, voxel_um, calibration)
    assert not labels.any()
    assert len(objects) == 0
    assert list(objects.columns) == list(COLUMNS)


def test_small_objects_can_be_dropped(scene, voxel_um):
    frame = scene(12).frame
    calibration = calibrated(frame, voxel_um=voxel_um)
    least = 0.07
    labels, objects = segmented(
        frame, voxel_um, calibration, parameters=replace(PARAMETERS, min_volume_um3=least)
    )
    _, all_objects = segmented(frame, voxel_um, calibration)
    assert len(objects) == np.sum(all_objects["volume_um3"] >= least) < len(all_objects)
    assert labels.max() == len(objects)
    assert (objects.dtypes.drop("label") == np.float64).all()


def test_a_frame_calibrated_with_features_needs_them(scene, voxel_um):
    made = scene(0, count=100)
    probability = np.random.default_rng(0).random(made.frame.shape).astype(np.float32)
    calibration = calibrated(made.frame, voxel_um=voxel_um, foreground=probability)
    with pytest.raises(BadInputError, match="no foreground probability"):
        segmented(made.frame, voxel_um, calibration)


def test_confidence_says_how_many_detections_are_particles(scene, matches, voxel_um):
    """Dim particles, about half of which are found: the share of detections that is true."""
    made = [scene(700 + s, count=40, peak=9.0, shape=(40, 96, 140)) for s in range(4)]
    calibration = calibrated(*(m.frame for m in made), voxel_um=voxel_um)
    assert calibration.evidence.expected_f1 > 0
    hits = claimed = found = 0.0
    for one in made:
        _, objects = segmented(one.frame, voxel_um, calibration)
        count, _ = matches(objects[["z", "y", "x"]].to_numpy(), one.truth)
        hits, found = hits + count, found + len(objects)
        claimed += objects["detection_confidence"].sum()
        assert (objects["detection_confidence"] >= calibration.evidence.threshold).all()
    assert found > 50
    assert claimed / found == pytest.approx(hits / found, abs=0.15)


def test_a_real_cell_has_puncta_in_the_cell_and_not_beside_it(real_data: Path):
    frame = tifffile.imread(real_data / "llsm_cell" / "reference_deskewed.tif")[:, 100:220]
    fill = 98
    valid = ndimage.binary_erosion((frame != fill).any(axis=1, keepdims=True), np.ones((1, 1, 3)))
    voxel_um = (0.3 * np.sin(np.radians(31.5)), 0.1, 0.1)
    accepted = replace(PARAMETERS, false_positives_per_frame=1.0)
    calibration = calibrated(frame, voxel_um=voxel_um, valid=valid, parameters=accepted)
    _, objects = segmented(frame, voxel_um, calibration, valid, parameters=accepted)
    assert 150 < len(objects) < 700
    assert np.sum(objects["x"] > 360) <= 5
