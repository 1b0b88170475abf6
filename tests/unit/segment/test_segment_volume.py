"""What a frame, its optics and a table of detections say of themselves."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from spatialdino_core.errors import BadInputError
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.segment.detections import Detections
from spatialdino_core.segment.optics import Optics, blob_signature, filter_halo
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Volume, values_at

SHAPE = (5, 12, 17)
VOXEL_UM = (0.2, 0.1, 0.12)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 5, SHAPE).astype(np.float32)


@pytest.mark.parametrize("ones", [None, (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)])
def test_validity_is_that_of_the_broadcast_mask(image, ones):
    rng = np.random.default_rng(1)
    valid = (
        None if ones is None else rng.random([1 if o else n for o, n in zip(ones, SHAPE, strict=True)]) > 0.3
    )
    volume = Volume(image, VOXEL_UM, valid)
    whole = np.broadcast_to(True if valid is None else valid, SHAPE)
    box = slice(1, 4), slice(0, 9), slice(5, 17)
    assert np.array_equal(volume.known(box), whole[box])
    position = rng.uniform(-2, np.array(SHAPE) + 1, (300, 3))
    nearest = np.clip(np.round(position).astype(int), 0, np.array(SHAPE) - 1)
    assert np.array_equal(volume.known_at(position), whole[tuple(nearest.T)])
    assert np.array_equal(values_at(image, position), image[tuple(nearest.T)])
    inside = ((position >= -0.5) & (position <= np.array(SHAPE) - 0.5)).all(axis=1)
    assert np.array_equal(volume.contains(position), whole[tuple(nearest.T)] & inside)
    assert 0 < inside.sum() < 300


def test_the_level_is_that_of_valid_finite_voxels(image):
    valid = np.arange(17)[None, None] < 9
    image[:, :, 9:], image[0, 0, 0] = 1e6, np.nan
    assert Volume(image, VOXEL_UM, valid).level == pytest.approx(100, abs=10)
    assert Volume(np.full(SHAPE, np.nan), VOXEL_UM).level == 0


def test_another_image_keeps_what_is_known(image):
    volume = Volume(image, VOXEL_UM, np.ones((5, 1, 17), bool), "movie, frame 3")
    assert volume.level != 0
    other = volume.with_image(np.zeros(SHAPE))
    assert (other.name, other.voxel_um, other.valid) == ("movie, frame 3", VOXEL_UM, volume.valid)
    assert other.level == 0
    with pytest.raises(BadInputError, match="movie, frame 3: found a validity mask"):
        volume.with_image(np.zeros((5, 12, 16)))


def test_the_point_spread_function_is_turned_into_voxels_once():
    psf = OpticsParameters(sigma_axial_um=0.3, sigma_lateral_um=0.15)
    parameters = SegmentParameters(optics=psf, size_factors=(1.0, 1.7, 1.2))
    optics = Optics.of(parameters, VOXEL_UM)
    assert optics is Optics.of(parameters, VOXEL_UM)
    assert optics.sigma_um.tolist() == [0.3, 0.15, 0.15]
    assert optics.sigma_voxels == pytest.approx([1.5, 1.5, 1.25])
    assert optics.halo == filter_halo(optics.sigma_voxels)
    for size, signature in zip((1.0, 1.7, 1.2), optics.signatures, strict=True):
        assert np.array_equal(signature, blob_signature(size, optics.sigma_voxels))
    with pytest.raises(ValueError, match="read-only"):
        optics.sigma_voxels[0] = 1


def test_rows_are_kept_joined_and_copied():
    table = Detections.at(np.arange(12.0).reshape(4, 3), np.arange(4.0), np.ones(4))
    assert len(table) == 4
    assert len(table.keep(np.array([], int))) == 0
    some = Detections.joined(
        [table.keep(np.array([3, 1])), table.keep(np.array([True, False, False, False]))]
    )
    assert some.z_score.tolist() == [3, 1, 0]
    assert some.position[:, 0].tolist() == [9, 3, 0]
    assert np.isnan(some.amplitude).all()
    own = table.copy()
    for field in fields(Detections):
        getattr(own, field.name)[:] = 7
    assert table.z_score.tolist() == [0, 1, 2, 3]
    assert np.isnan(table.variance).all()
