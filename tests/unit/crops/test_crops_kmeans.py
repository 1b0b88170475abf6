"""Crop positions: on the content, inside the volume, reproducible, and defined for any volume."""

import numpy as np
import pytest

from spatialdino_core.crops.kmeans import content_levels, crop_origins, cut_crop, sample_voxels
from spatialdino_core.crops.parameters import CropParameters

PARAMETERS = CropParameters(crop_voxels=12, crops_per_frame=4)
SHAPE = (40, 60, 70)
BLOBS = np.array([[10, 12, 15], [30, 45, 20], [20, 15, 55], [28, 48, 58]])


@pytest.fixture(scope="module")
def volume():
    image = np.random.default_rng(0).random(SHAPE, dtype=np.float32) * 0.1
    for z, y, x in BLOBS:
        image[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] += 0.6
    return image


def place(volume, parameters=PARAMETERS, valid=None, seed=1):
    valid = np.ones(volume.shape, bool) if valid is None else valid
    return crop_origins(volume, valid, parameters, np.random.default_rng(seed))


def test_every_blob_has_a_crop_centred_on_it(volume):
    centres = place(volume) + (12 - 1) / 2
    distance = np.linalg.norm(BLOBS[:, None] - centres, axis=2).min(axis=1)
    assert distance.max() < 2


def test_invalid_voxels_attract_nothing(volume):
    spoilt = volume.copy()
    valid = np.ones(SHAPE, bool)
    valid[:, :, :6] = False
    spoilt[:, :, :6] = 0.65
    assert np.array_equal(place(spoilt, valid=valid), place(np.where(valid, volume, 0), valid=valid))


def test_hot_voxels_attract_nothing(volume):
    spoilt = volume.copy()
    spoilt[0, 0, 56:70] = 1.0
    more = CropParameters(crop_voxels=12, crops_per_frame=6, low_percentile=99.95)
    origins = np.concatenate([place(spoilt, more, seed=seed) for seed in range(5)])
    assert not ((origins[:, :2] == 0).all(axis=1) & (origins[:, 2] > 50)).any()


def test_content_lies_between_percentiles_of_the_valid_voxels(volume):
    valid = np.random.default_rng(2).random(SHAPE) < 0.5
    low, high = content_levels(volume, valid, PARAMETERS)
    for level, percent in [(low, PARAMETERS.low_percentile), (high, PARAMETERS.high_percentile)]:
        assert level / 65535 == pytest.approx(np.percentile(volume[valid], percent), abs=2e-3)


def test_same_seed_same_crops(volume):
    assert np.array_equal(place(volume, seed=3), place(volume, seed=3))
    noise = np.random.default_rng(4).random(SHAPE, dtype=np.float32)
    assert not np.array_equal(place(noise, seed=3), place(noise, seed=4))


@pytest.mark.parametrize("crops", [1, 4, 9])
def test_there_are_as_many_crops_as_asked_for_all_inside(crops):
    parameters = CropParameters(crop_voxels=12, crops_per_frame=crops)
    two_voxels = np.zeros(SHAPE, np.float32)
    two_voxels[0, 0, 0] = two_voxels[39, 59, 69] = 0.5
    lenient = CropParameters(
        crop_voxels=12, crops_per_frame=crops, low_percentile=99.9995, high_percentile=100
    )
    cases = [
        (np.zeros(SHAPE, np.float32), None, parameters),
        (np.ones(SHAPE, np.float32), None, parameters),
        (np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool), parameters),
        (two_voxels, None, lenient),
        (np.random.default_rng(5).random((3, 12, 70), dtype=np.float32), None, parameters),
    ]
    for image, valid, chosen in cases:
        origins = place(image, chosen, valid)
        assert origins.shape == (crops, 3)
        assert (origins >= 0).all()
        assert (origins <= np.maximum(np.array(image.shape) - 12, 0)).all()
        assert all(cut_crop(image, origin, 12).shape == (12, 12, 12) for origin in origins)


def test_a_volume_without_contrast_is_cropped_at_random_valid_places():
    flat = np.full(SHAPE, 0.2, np.float32)
    low, high = content_levels(flat, np.ones(SHAPE, bool), PARAMETERS)
    assert low > high, "nothing is content"
    valid = np.zeros(SHAPE, bool)
    valid[20:22, 30:32, 40:42] = True
    parameters = CropParameters(crop_voxels=8, crops_per_frame=20)
    origins = place(flat, parameters, valid)
    assert (np.abs(origins + 3.5 - [20.5, 30.5, 40.5]) <= 1).all()
    assert not np.array_equal(place(flat, seed=1), place(flat, seed=2))


def test_sampling_equals_argwhere_and_thins_it_out_evenly():
    mask = np.random.default_rng(6).random((7, 20, 30)) < 0.2
    everything = sample_voxels(lambda z: mask[z], 7, 10**6, np.random.default_rng(0))
    assert np.array_equal(everything, np.argwhere(mask))
    few = sample_voxels(lambda z: mask[z], 7, 100, np.random.default_rng(0))
    assert len(np.unique(few, axis=0)) == len(few) == 100
    assert mask[tuple(few.T)].all()
    assert np.array_equal(few, np.array(sorted(map(tuple, few))))


def test_a_crop_is_a_slice_and_small_volumes_are_reflected(volume):
    assert np.array_equal(cut_crop(volume, np.array([3, 4, 5]), 12), volume[3:15, 4:16, 5:17])
    thin = cut_crop(volume[:5], np.array([0, 4, 5]), 12)
    assert np.array_equal(thin[5:10], volume[4::-1, 4:16, 5:17])
