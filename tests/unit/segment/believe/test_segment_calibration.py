"""The calibration keeps its promise on noise, and is not misled by what is in the frames."""

from __future__ import annotations

import json

import numpy as np
import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.believe.calibration import Calibration, calibrate, calibration_span
from spatialdino_core.segment.believe.survey import _histogram
from spatialdino_core.segment.detect.blobs import find_blobs
from spatialdino_core.segment.detect.observer import SINGLE_FRAME
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.frame import segment_frame
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Volume

SHAPE = (32, 80, 120)
SMALL = (16, 32, 32)
ALONE = SegmentParameters(temporal_reach_frames=0)


def window(frames: list[np.ndarray], voxel_um, valid=None, foreground=None) -> SegmentMovie:
    given = None if foreground is None else lambda number: foreground
    seen = range(len(frames))
    return SegmentMovie(lambda number: frames[number], seen, voxel_um, valid=valid, foreground=given)


@pytest.mark.parametrize("background", [40.0, 3.0], ids=["bright", "few-photons"])
def test_pure_noise_has_no_particles(scene, voxel_um, background):
    """Neither in single frames nor in many together, in two movies."""
    found = 0
    for movie in range(2):
        frames = [scene(100 * movie + s, count=0, shape=SHAPE, background=background).frame for s in range(6)]
        calibration = calibrate(window(frames, voxel_um), SegmentParameters())
        assert calibration.evidence.expected_f1 == 0
        assert calibration.reach == 0
        _, objects = segment_frame(window(frames, voxel_um), 0, calibration, SegmentParameters())
        found += len(objects)
    assert found <= 2


def test_noise_makes_as_many_dark_maxima_as_bright_ones(scene, voxel_um, optics):
    """All evidence rests on it. Noise of many photons is symmetric."""
    bright, dark = [], []
    for seed in range(5):
        frame = scene(seed, count=0, shape=SHAPE, background=3000.0).frame
        calibration = calibrate(window([frame], voxel_um), ALONE)
        detector = calibration.observer(optics).detector(SINGLE_FRAME)
        found = find_blobs([Volume(frame, voxel_um)], detector, optics, with_dark=True)
        bright.append(found.bright.z_score)
        dark.append(found.dark.z_score)
    bright, dark = np.concatenate(bright), np.concatenate(dark)
    for z_score in (2.5, 3.5, 4.0):
        counts = np.array([np.sum(bright > z_score), np.sum(dark > z_score)])
        assert counts.min() > 100
        assert abs(np.log(counts[0] / counts[1])) < 3 * np.sqrt(np.sum(1 / counts))


@pytest.mark.parametrize(("count", "peak"), [(4, 400.0), (15, 800.0)])
def test_rings_around_bright_particles_are_not_taken_for_noise(scene, voxel_um, count, peak):
    """The z-score that noise exceeds once per frame is that of the same movie without particles."""
    level = {}
    for particles in (0, count):
        frames = [scene(7 + s, count=particles, peak=peak, shape=SHAPE).frame for s in range(3)]
        level[particles] = calibrate(window(frames, voxel_um), ALONE).evidence.tail.threshold(1.0)
    assert level[count] == pytest.approx(level[0], abs=0.55)


def _foreground(inside):
    probability = np.full(SHAPE, 0.05, np.float32) + np.linspace(0, 0.04, SHAPE[2], dtype=np.float32)
    probability[:, :, inside] += 0.85
    return probability


def test_foreground_that_knows_the_particles_joins_the_evidence(scene, voxel_um):
    """Dim particles in one half of the frame only, which the foreground knows."""
    made = [scene(s, count=150, peak=10.0, shape=SHAPE) for s in range(3)]
    plain = [scene(s, count=0, shape=SHAPE).frame for s in range(3)]
    frames = [np.where(np.arange(120) < 60, m.frame, p) for m, p in zip(made, plain, strict=True)]
    probability = _foreground(slice(0, 60))
    calibration = calibrate(window(frames, voxel_um, foreground=probability), ALONE)
    assert calibration.foreground is not None
    assert calibration.foreground.bimodal
    evidence = calibration.evidence
    even = np.interp(0.5, evidence.confidences, evidence.z_scores)
    inside, outside = evidence.confidence(np.full(2, even), np.array([0.92, 0.07]))
    assert inside > outside + 0.2


@pytest.mark.parametrize("shape", [(6, 9, 11), (6, 1, 11), (1, 9, 1)])
def test_the_foreground_of_valid_voxels_is_counted_as_numpy_does(shape):
    """Also on the edges between bins."""
    rng = np.random.default_rng(1)
    probability = rng.random((6, 9, 11)).astype(np.float32)
    probability[::2] = np.round(probability[::2] * 64) / 64
    valid = rng.random(shape) < 0.7
    for known in (None, valid):
        inside = np.broadcast_to(True if known is None else known, probability.shape)
        expected = np.histogram(probability[inside], 64, (0, 1))[0]
        frame = Volume(probability, (1.0, 1.0, 1.0), known)
        assert np.array_equal(_histogram(frame, probability, 64), expected)
    assert not _histogram(frame, None, 64).any()


def test_unimodal_foreground_is_reported_as_such(scene, voxel_um):
    probability = np.random.default_rng(0).normal(0.4, 0.05, SHAPE).astype(np.float32)
    frame = scene(0, shape=SHAPE).frame
    calibration = calibrate(window([frame], voxel_um, foreground=probability), ALONE)
    assert calibration.foreground is not None
    assert not calibration.foreground.bimodal


def test_calibration_survives_json(scene, voxel_um):
    frames = [scene(s, shape=SHAPE).frame for s in range(2)]
    probability = _foreground(slice(40, 80))
    calibration = calibrate(
        window(frames, voxel_um, foreground=probability), SegmentParameters(temporal_below_f1=1)
    )
    assert Calibration.of_json(json.loads(json.dumps(calibration.as_json()))) == calibration


@pytest.mark.parametrize("reach", [0, 4])
def test_only_the_first_frames_are_read(scene, voxel_um, reach):
    """Whatever the movie's length, so that a movie that grows keeps its calibration."""
    parameters = SegmentParameters(calibration_frames=5, temporal_reach_frames=reach, temporal_below_f1=1)
    frames = [scene(index, count=9, peak=500.0, shape=SMALL).frame for index in range(20)]
    read = []

    def frame(number):
        read.append(number)
        return frames[number]

    span = calibration_span(parameters)
    whole = calibrate(SegmentMovie(frame, range(20), voxel_um), parameters)
    assert set(read) == set(range(span))
    start = calibrate(SegmentMovie(frame, range(span), voxel_um), parameters)
    assert start == whole
    assert whole.frames == 5


@pytest.mark.parametrize(("length", "asked", "looked"), [(1, 5, 1), (4, 5, 4), (5, 5, 5), (8, 5, 5)])
def test_as_many_frames_are_looked_at_as_asked(scene, voxel_um, length, asked, looked):
    parameters = SegmentParameters(calibration_frames=asked)
    frames = [scene(index, count=0, shape=SMALL).frame for index in range(length)]
    assert calibrate(window(frames, voxel_um), parameters).frames == looked


def test_the_background_is_measured_where_the_frame_is_valid(scene, voxel_um):
    """A deskewed frame of many tiles whose corners are empty; its noise is white, and known as such."""
    shape = (40, 24, 2600)
    rng = np.random.default_rng(0)
    frame = rng.poisson(100, shape).astype(np.uint16)
    z, x = np.arange(shape[0])[:, None, None], np.arange(shape[2])[None, None, :]
    valid = (x > 1100 + 10 * z) & (x < 1900 + 10 * z)
    frame[~np.broadcast_to(valid, shape)] = 0
    parameters = SegmentParameters(temporal_reach_frames=0)
    found = np.array(calibrate(window([frame], voxel_um, valid), parameters).covariance)[0]
    plain = rng.poisson(100, (40, 24, 300)).astype(np.uint16)
    expected = np.array(calibrate(window([plain], voxel_um), parameters).covariance)[0]
    assert np.diag(found) == pytest.approx(np.diag(expected), rel=0.25)


def test_a_crowd_of_a_thousand_is_found_as_far_as_it_is_resolved(scene, matches, voxel_um):
    made = scene(3, count=1000, peak=200.0, shape=(24, 60, 96))
    calibration = calibrate(window([made.frame], voxel_um), ALONE)
    _, objects = segment_frame(window([made.frame], voxel_um), 0, calibration, ALONE)
    count, _ = matches(objects[["z", "y", "x"]].to_numpy(), made.truth)
    assert count > 0.95 * len(objects)
    assert count > 300


def test_particles_that_fill_half_the_volume_end_well(voxel_um):
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    light = 40 + 200 * ((z + y // 2 + x // 2) // 8 % 2)
    frames = [(np.random.default_rng(s).poisson(light) + 100).astype(np.uint16) for s in range(2)]
    calibration = calibrate(window(frames, voxel_um), SegmentParameters())
    labels, objects = segment_frame(window(frames, voxel_um), 1, calibration, SegmentParameters())
    assert labels.max() == len(objects)
    assert 0 <= calibration.evidence.expected_f1 <= 1


def test_bad_input_is_refused(scene, voxel_um):
    frame = scene(0, count=0, shape=SMALL).frame
    bad = frame.astype(np.float32)
    bad[3, 4, 5] = np.nan
    cases = {
        "no frame": [],
        "without any variation": [np.full_like(frame, 7)] * 3,
        "NaN": [bad],
        "frame 1: found NaN": [frame.astype(np.float32), bad, frame.astype(np.float32)],
        "shape": [frame[0]],
    }
    for found, frames in cases.items():
        with pytest.raises(BadInputError, match=found):
            calibrate(window(frames, voxel_um), ALONE)
    refused = {
        "foreground probability of shape": {"foreground": np.zeros((15, 32, 32), np.float32)},
        "validity mask": {"valid": np.ones((16, 1, 31), bool)},
        "no valid voxel": {"valid": np.zeros((16, 1, 32), bool)},
        "voxel size": {"voxel_um": (0.2, 0.0, 0.1)},
    }
    for found, about in refused.items():
        with pytest.raises(BadInputError, match=found):
            calibrate(window([frame], **{"voxel_um": voxel_um} | about), ALONE)
