"""Blob-like maxima against scipy's maximum filter and numpy's eigenvalues, whatever the size of the tiles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from spatialdino_core.segment.detect import tiles
from spatialdino_core.segment.detect.blobs import find_blobs, responses_at
from spatialdino_core.segment.detect.maxima import MIN_CURVATURE, blob_maxima
from spatialdino_core.segment.detect.observer import Detector
from spatialdino_core.segment.detect.tiles import share_of_frame, some_rows
from spatialdino_core.segment.optics import FACTORS
from spatialdino_core.segment.volume import Volume

SIGMA = np.array([1.65, 1.25, 1.25])


def _roundness(volume: np.ndarray, at: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Smallest eigenvalue of the negative Hessian over its trace; beyond the border the volume goes on."""
    padded = np.pad(volume.astype(np.float64), 1, mode="edge")
    found = []
    for z, y, x in at + 1:
        box = padded[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2]
        hessian = np.empty((3, 3))
        for a in range(3):
            line = np.moveaxis(box, a, 0)[:, 1, 1]
            hessian[a, a] = 2 * line[1] - line[0] - line[2]
            for b in range(a):
                plane = np.moveaxis(box, (b, a), (0, 1))[:, :, 1]
                hessian[a, b] = hessian[b, a] = -(plane[2, 2] + plane[0, 0] - plane[0, 2] - plane[2, 0]) / 4
        value = np.linalg.eigvalsh(hessian * np.outer(scale, scale))
        found.append(value[0] / value.sum() if value.sum() > 0 else 0)
    return np.array(found)


def _found(volume: np.ndarray, half: np.ndarray, scale: np.ndarray, sign: int = 1) -> set[tuple[int, ...]]:
    """Row by row, from a ring that holds just the rows that count."""
    depth, height, width = volume.shape
    size, found = 2 * half[1] + 3, []
    for y in range(0, height, 3):
        ring = np.full((size, depth, width), 1e9 * sign, np.float32)
        for near in range(max(y - half[1], 0), min(y + 3 + half[1], height)):
            ring[near % size] = volume[:, near]
        rows = y, min(y + 3, height)
        found.append(blob_maxima(ring, rows, height, (slice(0, depth), slice(0, width)), half, scale, sign))
    return set(map(tuple, np.concatenate(found).tolist()))


@pytest.mark.parametrize("shape", [(13, 22, 41), (4, 31, 3), (30, 2, 17)])
@pytest.mark.parametrize("half", [(1, 1, 1), (2, 1, 1), (1, 2, 3)])
@pytest.mark.parametrize("sign", [1, -1])
def test_maxima_are_scipys_that_are_round(shape, half, sign):
    rng = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(rng.standard_normal(shape), [1.2, 1.0, 0.8]).astype(np.float32)
    high = sign * volume == ndimage.maximum_filter(
        sign * volume, size=[2 * h + 1 for h in half], mode="nearest"
    )
    at = np.argwhere(high & (sign * volume > 0))
    at = at[_roundness(sign * volume, at, SIGMA) >= MIN_CURVATURE]
    assert len(at) > 0
    assert _found(volume, np.array(half), SIGMA, sign) == set(map(tuple, at.tolist()))


@pytest.mark.parametrize(
    ("lengths", "found"), [((1, 1, 1), True), ((1, 1, 1000), False), ((1, 1, 2), True), ((1, 2.5, 1), False)]
)
def test_blobs_are_round_and_lines_are_not(spots, lengths, found):
    """Curvature falls with the square of the length: 1/9 of the sum on a blob twice as long as wide."""
    volume = spots((25, 25, 25), np.array([[12.0, 12, 12]]), 1.0, 8 * np.array(lengths)).astype(np.float32)
    assert ((12, 12, 12) in _found(volume, np.ones(3, int), np.ones(3))) == found


def test_there_is_room_for_any_number_of_maxima():
    volume = np.zeros((15, 15, 15), np.float32)
    volume[1::2, 1::2, 1::2] = 1
    assert len(_found(volume, np.ones(3, int), np.ones(3))) == 7**3


def test_a_part_of_each_row_is_looked_at():
    rng = np.random.default_rng(1)
    volume = ndimage.gaussian_filter(rng.standard_normal((20, 9, 30)), 1.0).astype(np.float32)
    ring = np.ascontiguousarray(volume.swapaxes(0, 1))
    whole = _found(volume, np.ones(3, int), SIGMA)
    found = blob_maxima(ring, (0, 9), 9, (slice(4, 12), slice(7, 30)), np.ones(3, int), SIGMA, 1)
    assert set(map(tuple, found.tolist())) == {(z, y, x) for z, y, x in whole if 4 <= z < 12 and x >= 7}


def _noise(shape: tuple[int, ...], count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [rng.poisson(60, shape).astype(np.uint16) for _ in range(count)]


@pytest.fixture
def detector() -> Detector:
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.2, (2, 2, len(FACTORS))) + np.array([[0.2], [0.5]])
    return Detector(weights, weights[:, :1], 0.3)


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_tiles_and_threads_change_nothing(voxel_um, optics, detector, axis):
    """Also where neither memory nor time would ask for them."""
    shape = (30, 90, 130)
    valid = None if axis is None else np.random.default_rng(4).random(shape).max(axis, keepdims=True) < 0.997
    seen = [Volume(image, voxel_um, valid) for image in _noise(shape, 2)]
    whole = find_blobs(seen, detector, optics, with_dark=True, tile_voxels=10**9)
    assert min(map(len, whole)) > 20
    assert set(whole.bright.width) == {1.0, 1.4}
    for options in ({"tile_voxels": 100_000}, {"threads": 3}, {"tile_voxels": 1, "threads": 2}):
        other = find_blobs(seen, detector, optics, with_dark=True, **options)
        for one, two in zip(whole, other, strict=True):
            assert np.array_equal(one.position, two.position)
            assert np.array_equal(one.z_score, two.z_score)
            assert np.array_equal(one.width, two.width)
    if valid is not None:
        places = tuple(whole.bright.position.astype(int).T)
        assert np.broadcast_to(valid, shape)[places].all()


def test_some_rows_are_spread_over_the_frame():
    assert some_rows((10, 50, 10), (2, 4, 4), None) == [(0, 50)]
    assert some_rows((10, 50, 10), (2, 4, 4), 10**6) == [(0, 50)]
    assert some_rows((10, 50, 10), (2, 4, 4), None, pieces=2) == [(0, 24), (24, 50)]
    assert some_rows((10, 50, 10), (2, 4, 4), None, pieces=99)[-1] == (48, 50)
    assert some_rows((10, 1000, 10), (2, 4, 4), 6_400) == [(468, 532)]
    assert some_rows((10, 1000, 10), (2, 4, 4), 20_000) == [(132, 196), (468, 532), (800, 864)]
    assert share_of_frame((10, 1000, 10), (2, 4, 4), 20_000) == pytest.approx(0.192)
    assert share_of_frame((10, 50, 10), (2, 4, 4), 10**6) == 1


def test_responses_are_looked_up_where_they_were_looked_for(monkeypatch, voxel_um, optics, detector):
    """Those of the maxima themselves, whose z-scores they are; NaN elsewhere."""
    monkeypatch.setattr(tiles, "MIN_ROWS", 20)
    volume = Volume(_noise((20, 200, 60), 1)[0], voxel_um)
    alone = Detector(detector.single_frame[:1], detector.single_frame[:1], -np.inf)
    places = np.random.default_rng(5).integers(0, volume.shape, (500, 3)).astype(float)
    every, none = responses_at(volume, alone.weights, [places, places[:0]], optics)
    assert np.isfinite(every).all()
    assert not len(none)
    some = responses_at(volume, alone.weights, [places], optics, most_voxels=60_000)[0]
    looked = np.zeros(200, bool)
    for first, stop in some_rows(volume.shape, (6, 10, 10), 60_000):
        looked[first:stop] = True
    assert 0.15 < looked.mean() < 0.3
    assert np.array_equal(np.isfinite(some), looked[places[:, 1].astype(int)])
    assert np.array_equal(some[np.isfinite(some)], every[np.isfinite(some)])
    found = find_blobs([volume], alone, optics).bright
    at_blobs = responses_at(volume, alone.weights, [found.position], optics)[0]
    assert np.corrcoef(at_blobs, found.z_score)[0, 1] > 0.7
