"""The calibration keeps its promise on noise, and is not misled by what is in the frames."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.blobs import find_peaks
from spatialdino_core.segment.calibration import Calibration, calibrate
from spatialdino_core.segment.parameters import SegmentParameters

SHAPE = (32, 80, 120)


@pytest.mark.parametrize("background", [40.0, 3.0], ids=["bright", "few-photons"])
@pytest.mark.parametrize("asked", [5.0, 1.0])
def test_pure_noise_gives_the_asked_false_positives(scene, voxel_um, background, asked):
    parameters = SegmentParameters(false_positives_per_frame=asked)
    frames = [scene(50 + s, count=0, shape=SHAPE, background=background).frame for s in range(17)]
    calibration = calibrate(((f, None) for f in frames), voxel_um, None, parameters)
    assert calibration.frames == parameters.calibration_frames
    found = 0
    for frame in frames[5:]:
        bright, _ = find_peaks(frame, voxel_um, None, parameters, where="noise")
        found += int(np.sum(bright.z_score >= calibration.threshold_z))
    expected = 12 * asked
    assert found <= 2.5 * expected + 3 * np.sqrt(expected)
    assert found >= 0.3 * expected - 2 * np.sqrt(expected)


def test_bright_particles_do_not_raise_the_threshold(scene, voxel_um):
    parameters = SegmentParameters()
    without, with_spots = (
        calibrate([(scene(7, count=n, peak=800.0, shape=SHAPE).frame, None)], voxel_um, None, parameters)
        for n in (0, 15)
    )
    assert with_spots.threshold_z == pytest.approx(without.threshold_z, abs=0.6)


def _foreground(shape, inside):
    probability = np.full(shape, 0.05, np.float32) + np.linspace(0, 0.04, shape[2], dtype=np.float32)
    probability[:, :, inside] += 0.85
    return probability


def test_threshold_is_lower_inside_the_foreground(scene, voxel_um):
    parameters = SegmentParameters(false_positives_per_frame=2.0, false_positives_outside=0.05)
    probability = _foreground(SHAPE, slice(40, 80))
    frames = [(scene(s, count=0, shape=SHAPE).frame, probability) for s in range(4)]
    calibration = calibrate(frames, voxel_um, None, parameters)
    assert calibration.foreground is not None
    assert calibration.foreground.bimodal
    assert calibration.threshold_z < calibration.threshold_outside_z - 0.5
    assert calibration.is_inside(np.array([0.07, 0.9]), 2).tolist() == [False, True]


def test_unimodal_foreground_is_reported_and_not_used(scene, voxel_um):
    probability = np.random.default_rng(0).normal(0.4, 0.05, SHAPE).astype(np.float32)
    calibration = calibrate(
        [(scene(0, count=0, shape=SHAPE).frame, probability)], voxel_um, None, SegmentParameters()
    )
    assert calibration.foreground is not None
    assert not calibration.foreground.bimodal
    assert calibration.is_inside(np.array([0.1, 0.9]), 2).all()


def test_calibration_survives_json(scene, voxel_um):
    probability = _foreground(SHAPE, slice(40, 80))
    calibration = calibrate([(scene(1, shape=SHAPE).frame, probability)], voxel_um, None, SegmentParameters())
    assert Calibration.of_json(json.loads(json.dumps(calibration.as_json()))) == calibration


def test_only_the_first_frames_are_drawn(scene, voxel_um):
    drawn = []

    def frames():
        for index in range(10):
            drawn.append(index)
            yield scene(index, count=0, shape=(16, 32, 32)).frame, None

    calibrate(frames(), voxel_um, None, SegmentParameters(calibration_frames=2))
    assert drawn == [0, 1]


def test_bad_input_is_refused(scene, voxel_um):
    parameters = SegmentParameters()
    frame = scene(0, count=0, shape=(16, 32, 32)).frame
    probability = np.zeros(frame.shape, np.float32)
    bad = frame.astype(np.float32)
    bad[3, 4, 5] = np.nan
    cases = {
        "no frame": [],
        "without any variation": [(np.full_like(frame, 7), None)],
        "NaN": [(bad, None)],
        "shape": [(frame[0], None)],
        "foreground probability of shape": [(frame, probability[1:])],
        "some calibration frames only": [(frame, None), (frame, probability)],
    }
    for found, frames in cases.items():
        with pytest.raises(BadInputError, match=found):
            calibrate(frames, voxel_um, None, parameters)
    with pytest.raises(BadInputError, match="validity mask"):
        calibrate([(frame, None)], voxel_um, np.ones((16, 1, 31), bool), parameters)
    with pytest.raises(BadInputError, match="voxel size"):
        calibrate([(frame, None)], (0.2, 0.0, 0.1), None, parameters)
