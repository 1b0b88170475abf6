"""What neighbouring frames add: simulated movies at the limit, and the movement of particles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from spatialdino_core.score.detection import match_frame
from spatialdino_core.segment.believe.calibration import Calibration, calibrate
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.frame import segment_frame
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.simulate.movie import Movie, simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters

SIMULATED_UM = (0.2, 0.104, 0.104)
GATE_UM = 0.39
LOOKED_AT = (1, 8, 16)


def _simulated(snr: float, cell_photons: float) -> tuple[Movie, list[np.ndarray]]:
    """Sixty particles that diffuse, some of them on paths, in eighteen frames of 44 × 144 × 144 voxels."""
    scene = SceneParameters(
        frames=18,
        particles=60,
        snr=snr,
        lifetime_s=60,
        diffusion_um2_per_s=0.003,
        directed_fraction=0.3,
        switching_rate_hz=0.05,
        directed_diffusion_um2_per_s=0.0005,
        cell_photons=cell_photons,
    )
    acquisition = AcquisitionParameters(scan="none", step_um=0.2, planes=44, rows=144, columns=144)
    movie = simulate_movie(MovieParameters(seed=0, scene=scene, acquisition=acquisition))
    return movie, [movie.deskewed_frame(number) for number in range(18)]


def _f1(movie, frames, parameters: SegmentParameters) -> tuple[float, Calibration]:
    window = SegmentMovie(lambda number: frames[number], range(len(frames)), SIMULATED_UM)
    calibration = calibrate(window, parameters)
    hits = total = 0
    for number in LOOKED_AT:
        _, objects = segment_frame(window, number, calibration, parameters)
        rows = movie.truth[(movie.truth["frame"] == number) & movie.truth["visible"]]
        truth, found = (table[["z_um", "y_um", "x_um"]].to_numpy() for table in (rows, objects))
        hits += len(match_frame(found, truth, GATE_UM)[0])
        total += len(found) + len(truth)
    return 2 * hits / total, calibration


def test_neighbouring_frames_find_free_particles_that_single_frames_miss():
    movie, frames = _simulated(1.0, 0.0)
    together, calibration = _f1(movie, frames, SegmentParameters(candidate_confidence=1.0))
    alone, _ = _f1(movie, frames, SegmentParameters(candidate_confidence=1.0, temporal_reach_frames=0))
    assert calibration.reach == 8
    assert calibration.evidence.expected_f1 == pytest.approx(together, abs=0.15)
    assert together >= 0.8
    assert alone < together - 0.08


def test_neighbouring_frames_see_particles_through_the_texture_of_a_cell():
    movie, frames = _simulated(2.0, 25.0)
    together, calibration = _f1(movie, frames, SegmentParameters(candidate_confidence=1.0))
    assert calibration.reach == 8
    assert together >= 0.75


def test_bright_particles_need_no_other_frame(scene, voxel_um):
    frames = [scene(s, peak=300.0, shape=(32, 80, 120)).frame for s in range(9)]
    window = SegmentMovie(lambda number: frames[number], range(9), voxel_um)
    calibration = calibrate(window, SegmentParameters(candidate_confidence=1.0))
    assert calibration.reach == 0
    assert calibration.persistence == [1.0]
    alone = SegmentMovie(lambda number: frames[4], [4], voxel_um)
    together, single = (
        segment_frame(seen, 4, calibration, SegmentParameters(candidate_confidence=1.0))
        for seen in (window, alone)
    )
    assert np.array_equal(together[0], single[0])
    pd.testing.assert_frame_equal(together[1], single[1])


@pytest.mark.parametrize("step_um", [0.03, 0.12])
def test_how_fast_particles_leave_is_measured(spots, psf_voxels, voxel_um, step_um):
    """Against the closed form of a blob that moves by Gaussian steps."""
    rng = np.random.default_rng(0)
    shape = (40, 120, 120)
    position = rng.uniform(6, np.array(shape) - 7, (50, 3))
    frames = []
    for _ in range(9):
        light = 40 + spots(shape, position, 40.0, psf_voxels)
        frames.append((rng.poisson(light) + 100).astype(np.uint16))
        position = position + rng.normal(0, step_um, (50, 3)) / voxel_um
    parameters = SegmentParameters(candidate_confidence=1.0, temporal_reach_frames=3, temporal_below_f1=1.0)
    window = SegmentMovie(lambda number: frames[number], range(9), voxel_um)
    calibration = calibrate(window, parameters)
    psf_um = psf_voxels * voxel_um
    expected = np.prod((1 + step_um**2 / (2 * psf_um**2)) ** -0.5)
    assert calibration.reach == 3
    assert calibration.persistence[1] == pytest.approx(expected, abs=0.15)


def test_a_missing_frame_and_the_ends_of_a_movie_are_no_obstacle(spots, psf_voxels, voxel_um):
    """Particles that stay where they are, found at both ends and beside gaps."""
    rng = np.random.default_rng(0)
    truth = rng.uniform([4, 5, 5], [27, 74, 114], (25, 3))
    light = 40 + spots((32, 80, 120), truth, 14.0, psf_voxels)
    exists = [0, 1, 2, 4, 5, 8, 9, 10, 11]
    frames = {number: (rng.poisson(light) + 100).astype(np.uint16) for number in exists}
    parameters = SegmentParameters(candidate_confidence=1.0, temporal_reach_frames=4, temporal_below_f1=1.0)
    window = SegmentMovie(lambda number: frames[number], exists, voxel_um)
    calibration = calibrate(window, parameters)
    assert calibration.reach == 4
    for number in (0, 4, 8, 11):
        _, objects = segment_frame(window, number, calibration, parameters)
        found = objects[["z", "y", "x"]].to_numpy()
        near = np.linalg.norm((found[:, None] - truth) * voxel_um, axis=-1).min(axis=0) < 0.312
        assert near.mean() > 0.75
        assert len(found) < 35


def test_a_particle_that_only_neighbouring_frames_show_is_not_reported(spots, psf_voxels, voxel_um):
    """Half of the particles are dark in the fifth frame, and nothing may be seen there."""
    rng = np.random.default_rng(0)
    truth = rng.uniform([4, 5, 5], [27, 74, 114], (30, 3))
    frames = {}
    for number in range(9):
        lit = truth if number != 4 else truth[:15]
        light = 40 + spots((32, 80, 120), lit, 14.0, psf_voxels)
        frames[number] = (rng.poisson(light) + 100).astype(np.uint16)
    window = SegmentMovie(lambda number: frames[number], range(9), voxel_um)
    parameters = SegmentParameters(candidate_confidence=1.0, temporal_reach_frames=4, temporal_below_f1=1.0)
    calibration = calibrate(window, parameters)
    assert calibration.reach == 4
    _, objects = segment_frame(window, 4, calibration, parameters)
    found = objects[["z", "y", "x"]].to_numpy()
    near = np.linalg.norm((found[:, None] - truth) * voxel_um, axis=-1).min(axis=0) < 0.312
    assert near[:15].mean() >= 0.7
    assert near[15:].mean() <= 0.2


def test_candidates_below_the_threshold_are_in_the_table_for_tracking(spots, psf_voxels, voxel_um):
    rng = np.random.default_rng(1)
    truth = rng.uniform([4, 5, 5], [27, 74, 114], (30, 3))
    light = 40 + spots((32, 80, 120), truth, 20.0, psf_voxels)
    frames = [(rng.poisson(light) + 100).astype(np.uint16) for _ in range(3)]
    window = SegmentMovie(lambda number: frames[number], range(3), voxel_um)
    tables = {}
    for least in (0.1, 1.0):
        parameters = SegmentParameters(candidate_confidence=least, temporal_reach_frames=0)
        calibration = calibrate(window, parameters)
        tables[least] = segment_frame(window, 1, calibration, parameters)[1]
        threshold = calibration.evidence.threshold
    accepted = tables[0.1][tables[0.1]["detection_confidence"] >= threshold]
    assert 0.1 <= tables[0.1]["detection_confidence"].min() < threshold
    assert accepted["z_score"].tolist() == tables[1.0]["z_score"].tolist()


def test_moving_particles_are_points_where_they_are_now():
    """In a cell at SNR 2, with eight frames on either side: positions, and volumes at the mask level."""
    movie, frames = _simulated(2.0, 25.0)
    parameters = SegmentParameters(candidate_confidence=1.0)
    window = SegmentMovie(lambda number: frames[number], range(len(frames)), SIMULATED_UM)
    calibration = calibrate(window, parameters)
    assert calibration.reach == 8
    errors, volumes = [], []
    for number in LOOKED_AT:
        _, objects = segment_frame(window, number, calibration, parameters)
        rows = movie.truth[(movie.truth["frame"] == number) & movie.truth["visible"]]
        truth, found = (table[["z_um", "y_um", "x_um"]].to_numpy() for table in (rows, objects))
        mine, theirs = match_frame(found, truth, GATE_UM)[:2]
        errors.append(np.sum((found[mine] - truth[theirs]) ** 2, axis=1))
        volumes.append(objects["volume_um3"].to_numpy()[mine])
    radii = Optics.of(parameters, SIMULATED_UM).sigma_um * np.sqrt(-2 * np.log(parameters.mask_level))
    assert np.median(np.concatenate(volumes)) == pytest.approx(4 / 3 * np.pi * np.prod(radii), rel=0.3)
    assert np.sqrt(np.mean(np.concatenate(errors))) < 0.11
