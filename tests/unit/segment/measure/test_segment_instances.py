"""Labels against a partition, a filter and an outline of the whole frame."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from spatialdino_core.optics import OpticsParameters
from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.measure.instances import SMOOTHING, VARIETY, Labels, label_spots
from spatialdino_core.segment.measure.objects import _invalid_distance
from spatialdino_core.segment.optics import Optics
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Volume

VOXEL_UM = (0.2, 0.1, 0.12)
PARAMETERS = SegmentParameters(optics=OpticsParameters(sigma_axial_um=0.25, sigma_lateral_um=0.13))
OPTICS = Optics.of(PARAMETERS, VOXEL_UM)
PSF = np.array([0.25, 0.13, 0.13]) / VOXEL_UM


def labelled(frame: np.ndarray, valid: np.ndarray | None, spots: Detections) -> np.ndarray:
    """What the definition in words says, voxel by voxel of the whole frame."""
    shape, known = frame.shape, np.broadcast_to(True if valid is None else valid, frame.shape)
    sigma = SMOOTHING * PSF
    options = {"mode": "constant", "truncate": 4.0}
    weight = ndimage.gaussian_filter(known.astype(float), sigma, **options)
    smooth = ndimage.gaussian_filter(np.where(known, frame, 0).astype(float), sigma, **options)
    smooth = smooth / np.maximum(weight, 1e-9)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distance = np.stack([np.linalg.norm((grid - p) * VOXEL_UM, axis=-1) for p in spots.position])
    nearest = np.where(known & (distance.min(axis=0) < PARAMETERS.max_radius_um), distance.argmin(axis=0), -1)
    labels = np.zeros(shape, np.uint32)
    for i, place in enumerate(spots.position):
        own = nearest == i
        wide = np.sqrt(spots.sigma[i] ** 2 + sigma**2)
        point = np.exp(-0.5 * (((grid - place) / wide) ** 2).sum(axis=-1))
        height = spots.amplitude[i] * np.prod(spots.sigma[i] / wide)
        measured = (smooth - spots.background[i]) / (height if height > 0 else np.inf)
        gain = VARIETY / (VARIETY + np.mean((measured - point)[own] ** 2)) if own.any() else 0.0
        bright = gain * measured + (1 - gain) * point > PARAMETERS.mask_level ** np.mean(
            (spots.sigma[i] / wide) ** 2
        )
        centre = tuple(np.clip(np.round(place).astype(int), 0, np.array(shape) - 1))
        bright[centre] = True
        pieces = ndimage.label(bright & own)[0]
        if own[centre]:
            labels[pieces == pieces[centre]] = i + 1
    return labels


@pytest.mark.parametrize("shape", [(16, 40, 44), (1, 40, 44), (16, 40, 1)])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_labels_are_what_their_definition_says(spots, fitted, shape, dtype):
    rng = np.random.default_rng(sum(shape))
    places = rng.uniform(-0.5, np.array(shape) - 0.5, (25, 3))
    places = np.vstack([places, places[:3] + np.array([0, 1.5, 0.5])])
    height = rng.uniform(5, 90, len(places))
    light = 100 + sum(spots(shape, one[None], h, PSF) for one, h in zip(places, height, strict=True))
    frame = rng.poisson(light).astype(dtype)
    height[:2] = 0, -3
    points = fitted(places, np.outer(rng.choice([1, 1.4], len(places)), PSF), height)
    z, x = np.arange(shape[0])[:, None, None], np.arange(shape[2])
    for valid in (None, (x > 0.8 * z) | (shape[2] == 1), rng.random(shape) > 0.1):
        known = np.broadcast_to(True if valid is None else valid, shape)
        given = frame if dtype == np.uint16 else np.where(known, frame, np.nan).astype(dtype)
        found = label_spots(Volume(given, VOXEL_UM, valid), points, OPTICS, PARAMETERS)
        assert np.array_equal(found.image(), labelled(given, valid, points))
        assert (found.sizes > 0).sum() > 5


def test_of_two_spots_at_equal_distance_the_first_wins(fitted):
    places = np.array([[0.0, 4, 6], [0, 4, 4]])
    points, voxel_um = fitted(places, 4.0, 50.0, 0.0), (0.25, 0.25, 0.25)
    flat = Volume(np.full((1, 9, 11), 50, np.uint16), voxel_um)
    image = label_spots(flat, points, Optics.of(PARAMETERS, voxel_um), PARAMETERS).image()
    assert image[0, 4].tolist() == [0, 0, 2, 2, 2, 1, 1, 1, 1, 0, 0]


def test_objects_can_be_left_out():
    labels = Labels((2, 2, 2), np.array([3, 5, 0, 7]), np.array([0, 0, 2, 3]), 4)
    assert labels.sizes.tolist() == [2, 0, 1, 1]
    assert labels.sums(np.array([1.0, 2, 4, 8])).tolist() == [3, 0, 4, 8]
    kept = labels.keep(np.array([True, False, False, True]))
    assert kept.image().ravel().tolist() == [0, 0, 0, 1, 0, 1, 0, 2]
    assert kept.objects == 2


@pytest.mark.parametrize("shape", [(9, 1, 20), (9, 12, 20), (1, 12, 20)])
def test_distance_from_invalid_voxels(shape):
    rng = np.random.default_rng(0)
    valid = rng.random(shape) > 0.04
    valid[:, :, :4] = False
    position = rng.uniform(-0.5, [8.5, 11.5, 19.5], (200, 3))
    found = _invalid_distance(position, Volume(np.zeros((9, 12, 20)), VOXEL_UM, valid), valid)
    everywhere = np.broadcast_to(ndimage.distance_transform_edt(valid, sampling=VOXEL_UM), (9, 12, 20))
    nearest = np.clip(np.round(position).astype(int), 0, [8, 11, 19])
    assert found == pytest.approx(everywhere[tuple(nearest.T)], abs=1e-12)
    assert (found == 0).any()
